import { reasonOf } from "../errors";
import type { Store } from "../stores/store";

/** What a server says, or that it does not. */
export interface Answer {
  up: boolean;
  /** It counts as there, and has not answered in time. */
  slow?: true;
  text: string;
}

/** Nothing came within the time. */
export class NoAnswer extends Error {}

export type InTime = <T>(asked: Promise<T>) => Promise<T>;

/** Whether the store takes writes, found out by one. */
export class StoreProbe {
  /** The last one that has ended, in time or not. */
  #failed = false;

  constructor(private readonly store: Store) {}

  async ask(inTime: InTime): Promise<Answer> {
    const { store } = this;
    const probe = store.probe();
    probe.then(
      () => (this.#failed = false),
      () => (this.#failed = true)
    );
    try {
      const ms = await inTime(probe);
      return { up: true, text: `up (${store.name}, takes a write in ${ms.toFixed(1)} ms)` };
    } catch (error) {
      // Under load an answer takes long. One that is away is told so by the store within seconds, or by its own error.
      if (error instanceof NoAnswer && store.ready && !this.#failed)
        return { up: false, slow: true, text: `answers slowly (${store.name}): ${reasonOf(error)}` };
      const what = isAway(error, store) ? "down" : "takes no writes";
      return { up: false, text: `${what} (${store.name}): ${reasonOf(error)}` };
    }
  }
}

/** It cannot be reached or does not answer; else it refuses the write. */
function isAway(error: unknown, store: Store): boolean {
  const unavailable = (error as { type?: unknown }).type === "RELIABLE_UNAVAILABLE";
  return error instanceof NoAnswer || (unavailable && (store.name !== "embedded" || !store.ready));
}
