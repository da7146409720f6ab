import { AsyncLocalStorage } from "node:async_hooks";
import { processShared } from "../platform/process-shared";
import { WaitGroup } from "./wait-group";

interface Shared {
  current: AsyncLocalStorage<HandlerTransaction | undefined>;
  ofSession: WeakMap<object, HandlerTransaction>;
}

/** Copies of this package in one process share it: a service of one may be called in a handler of another. */
const copies = processShared<Shared>("handler-transactions");
const shared: Shared = copies.get("") ?? { current: new AsyncLocalStorage(), ofSession: new WeakMap() };
copies.set("", shared);

/** One run of a handler with `inbox: "transaction"`. Emits of the handler join it until the run has ended. */
export class HandlerTransaction {
  readonly #emits = new WaitGroup();
  /** Not private to this copy. */
  open = true;
  #failed: { error: unknown } | undefined;

  constructor(
    /** The inbox of the store whose session it is. */
    readonly store: object,
    readonly session: object
  ) {
    shared.ofSession.set(session, this);
  }

  /**
   * Runs the handler in its own async context. Ends when the emits that it did not await have ended too: they belong to
   * the transaction, which must not be committed before.
   */
  async run<T>(handler: () => Promise<T>): Promise<T> {
    let result: T;
    try {
      result = await shared.current.run(this, handler);
    } finally {
      while (this.#emits.count) await this.#emits.idle();
      this.open = false;
    }
    if (this.#failed) throw this.#failed.error;
    return result;
  }

  /** It must not be committed, whatever its handler makes of the error. */
  fail(error: unknown): void {
    this.#failed ??= { error };
  }

  join<T>(emit: Promise<T>): Promise<T> {
    this.#emits.track(emit);
    return emit;
  }

  /** The run that an emit belongs to: that of its context's delivery, else that of the async context. */
  static of(store: object, session: unknown): HandlerTransaction | undefined {
    const named = typeof session === "object" && session !== null ? shared.ofSession.get(session) : undefined;
    if (named?.open && named.store === store) return named;
    const around = shared.current.getStore();
    return around?.open && around.store === store ? around : undefined;
  }

  /** Runs what a delivery begins outside of the run in whose async context it may have come. */
  static outside<T>(work: () => T): T {
    return shared.current.getStore() ? shared.current.run(undefined, work) : work();
  }
}
