import { ReliableRetryableError } from "../../errors";
import type { Control, Heard, Listener, Publication, PublishResult } from "../courier";
import type { MemoryBroker } from "./broker";

/** Marks and news of one process. */
export class MemoryControl implements Control {
  readonly #listeners = new Map<Listener, string>();
  #broker: MemoryBroker | undefined;

  attach(broker: MemoryBroker): void {
    this.#broker = broker;
    for (const [listener, key] of this.#listeners) this.#hear(broker, key, listener);
  }

  detach(): void {
    for (const listener of this.#listeners.keys()) this.#broker?.listeners.delete(listener);
    this.#broker = undefined;
  }

  async mark(name: string): Promise<void> {
    this.#connected(`set the mark ${name}`).marks.add(name);
  }

  async unmark(name: string): Promise<void> {
    this.#connected(`take away the mark ${name}`).marks.delete(name);
  }

  async marked(name: string): Promise<boolean> {
    return this.#connected(`look for the mark ${name}`).marks.has(name);
  }

  listen(key: string, listener: Listener): () => void {
    this.#listeners.set(listener, key);
    if (this.#broker) this.#hear(this.#broker, key, listener);
    return () => {
      this.#listeners.delete(listener);
      this.#broker?.listeners.delete(listener);
    };
  }

  /** As at a broker: in a later turn. */
  tell(key: string, { messageId, type, appId, body }: Publication, headers: Record<string, unknown>): PublishResult {
    const { listeners } = this.#connected("tell all nodes");
    const meant = [...listeners].flatMap(([listener, of]) => (of === key ? listener : []));
    if (!meant.length) return { outcome: "returned", reason: "312 NO_ROUTE: nobody listens", code: "NO_ROUTE" };
    const heard: Heard = { queue: "control", messageId, type, appId, headers, body: Buffer.from(body) };
    for (const listener of meant)
      setImmediate(() => {
        if (listeners.has(listener)) listener({ ...heard });
      });
    return { outcome: "confirmed" };
  }

  #hear(broker: MemoryBroker, key: string, listener: Listener): void {
    broker.listeners.set(listener, key);
    listener();
  }

  #connected(what: string): MemoryBroker {
    if (!this.#broker)
      throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", `Cannot ${what}: the courier is not started.`);
    return this.#broker;
  }
}
