import type { Logger } from "../platform/logger";

/** Listeners by event name. Unlike an EventEmitter, an `error` without a listener is not thrown. */
export class TypedEmitter<Events extends { [name: string]: unknown[] }> {
  readonly #listeners = new Map<keyof Events, Set<(...args: unknown[]) => void>>();

  constructor(private readonly logger: Logger) {}

  on<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): () => void {
    let listeners = this.#listeners.get(event);
    if (!listeners) this.#listeners.set(event, (listeners = new Set()));
    const added = listener as unknown as (...args: unknown[]) => void;
    listeners.add(added);
    return () => void listeners.delete(added);
  }

  /** A listener that throws harms neither the others nor the caller, which is often a protocol callback. */
  emit<E extends keyof Events>(event: E, ...args: Events[E]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(...args);
      } catch (thrown) {
        this.logger.error(`A listener of "${String(event)}" threw:`, thrown);
      }
    }
  }
}
