import type { ClientSession } from "mongodb";

/** Newer drivers leave `transaction` out of their types; all versions have it. */
interface Inner {
  transaction: { isActive: boolean };
}

/**
 * The transaction that a session has open now, whatever becomes of the session. The driver looks at a session when it
 * builds a command, which is after waiting for a server and a connection. By then the transaction may be over, and the
 * command would be stored at once, outside of any; or the session may have begun another one. `session` looks ended to
 * the driver as soon as this transaction is over: nothing more is issued with it. The object is compared, which is new
 * with each transaction; `serverSession.txnNumber` changes later, with the first command.
 */
export class OpenTransaction {
  readonly session: ClientSession;
  readonly #transaction: Inner["transaction"];

  constructor(private readonly theirs: ClientSession) {
    this.#transaction = innerOf(theirs).transaction;
    this.session = new Proxy(theirs, {
      get: (target, key) => {
        if (key === "hasEnded") return this.over;
        // Otherwise the driver would take a command for one outside of transactions that it may repeat.
        if (key === "inTransaction") return () => true;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
      set: (target, key, value) => Reflect.set(target, key, value, target)
    });
  }

  /** Committed, aborted, or the session has ended or begun another one. */
  get over(): boolean {
    const { theirs } = this;
    return theirs.hasEnded || innerOf(theirs).transaction !== this.#transaction || !this.#transaction.isActive;
  }
}

function innerOf(session: ClientSession): Inner {
  return session as unknown as Inner;
}
