import { AsyncLocalStorage } from "node:async_hooks";

/** After so many runs without an emit a group's handlers count as ones that do not emit, for so long. */
const QUIET_RUNS = 1000;
const QUIET_MS = 30_000;
/** Then so many runs are watched again. */
const AGAIN_RUNS = 100;

/** A group's handlers, as far as they were watched. */
interface Watched {
  runs: number;
  /** When the last of `runs` was seen, by the monotonic clock. */
  quietAt: number;
  /** Once is enough. */
  emits: boolean;
}

/**
 * Tells what is done in the course of a delivery, where no context says so. Node.js up to 23 slows down every promise of
 * a process while this is in use, so it is only while it is asked for, and as long as there is a group whose handlers emit
 * without a context, or may.
 */
export class DeliveryScope {
  readonly #current = new AsyncLocalStorage<Watched>();
  readonly #groups = new Map<string, Watched>();

  constructor(private readonly now: () => number) {}

  run<T>(group: string, handle: () => T): T {
    let watched = this.#groups.get(group);
    if (!watched) this.#groups.set(group, (watched = { runs: 0, quietAt: 0, emits: false }));
    if (!watched.emits && watched.runs >= QUIET_RUNS) {
      if (this.now() - watched.quietAt < QUIET_MS) return handle();
      watched.runs -= AGAIN_RUNS;
    }
    // The last run of a group that does not emit needs no context any more.
    if (++watched.runs >= QUIET_RUNS && !watched.emits && this.#quiet(watched)) return handle();
    return this.#current.run(watched, handle);
  }

  get within(): boolean {
    const watched = this.#current.getStore();
    if (watched) watched.emits = true;
    return watched !== undefined;
  }

  /** An emit of the group was seen in another way. */
  emits(group: string): void {
    this.#groups.set(group, { runs: 0, quietAt: 0, emits: true });
  }

  end(): void {
    this.#current.disable();
  }

  /** True = no group needs it any more. */
  #quiet(watched: Watched): boolean {
    watched.quietAt = this.now();
    for (const { runs, emits } of this.#groups.values()) if (emits || runs < QUIET_RUNS) return false;
    this.end();
    return true;
  }
}
