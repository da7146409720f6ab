import { AsyncLocalStorage } from "node:async_hooks";

/**
 * Tells what is done in the course of a delivery, where no context says so. Node.js up to 23 slows down every promise of
 * a process while this is in use, so it is only while it is asked for.
 */
export class DeliveryScope {
  readonly #current = new AsyncLocalStorage<true>();

  run<T>(handle: () => T): T {
    return this.#current.run(true, handle);
  }

  get within(): boolean {
    return this.#current.getStore() === true;
  }

  end(): void {
    this.#current.disable();
  }
}
