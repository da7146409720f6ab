import { Deadline } from "../async/deadline";
import type { Clock } from "../platform/clock";

/**
 * The services of a node that have started (or are about to) and not stopped, and those in the middle of their stop.
 */
export class Services {
  readonly #all = new Set<object>();
  readonly #leaving = new Set<object>();
  #deadline: Deadline | undefined;

  constructor(private readonly clock: Clock) {}

  /** At each start of a service; what a stop of its own has left behind, by failing half-way, counts no more. */
  enter(service: object): void {
    this.#all.add(service);
    this.left(service);
  }

  /** Has started, or is starting, and has not been told to stop. */
  serves(service: object): boolean {
    return this.#all.has(service) && !this.#leaving.has(service);
  }

  /**
   * A service begins to stop. Those that do so at the same time, in steps and with code of the user's in between, have
   * one deadline.
   */
  leave(service: object, drainTimeoutMs: number): Deadline {
    this.#leaving.add(service);
    return (this.#deadline ??= new Deadline(drainTimeoutMs, this.clock));
  }

  /** False = it was none. */
  remove(service: object): boolean {
    return this.#all.delete(service);
  }

  get empty(): boolean {
    return this.#all.size === 0;
  }

  /** Its stop is through; the next one begins a deadline of its own when it was the last of them. */
  left(service: object): void {
    this.#leaving.delete(service);
    if (!this.#leaving.size) this.#deadline = undefined;
  }
}
