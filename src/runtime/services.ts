import { Deadline } from "../async/deadline";
import type { Clock } from "../platform/clock";

/** The services of a node that have started, or are starting, and those that are stopping. */
export class Services {
  readonly #all = new Set<object>();
  readonly #leaving = new Set<object>();
  #deadline: Deadline | undefined;

  constructor(private readonly clock: Clock) {}

  /** At each start of a service. What an earlier failed stop of it has left behind does not count any more. */
  enter(service: object): void {
    this.#all.add(service);
    this.left(service);
  }

  /** It has started, or is starting, and has not been told to stop. */
  serves(service: object): boolean {
    return this.#all.has(service) && !this.#leaving.has(service);
  }

  /**
   * A service begins to stop. Services that stop at the same time share one deadline, also when the user's code runs in
   * between.
   */
  leave(service: object, drainTimeoutMs: number): Deadline {
    this.#leaving.add(service);
    return (this.#deadline ??= new Deadline(drainTimeoutMs, this.clock));
  }

  /** False = it was not counted. */
  remove(service: object): boolean {
    return this.#all.delete(service);
  }

  get empty(): boolean {
    return this.#all.size === 0;
  }

  /** Its stop has ended. After the last one, the next stop begins a new deadline. */
  left(service: object): void {
    this.#leaving.delete(service);
    if (!this.#leaving.size) this.#deadline = undefined;
  }
}
