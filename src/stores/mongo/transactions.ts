import type { ClientSession, MongoClient } from "mongodb";
import { ReliableError, reasonOf } from "../../errors";
import type { Message } from "../../message/message";
import { BARRIER, Barriers, barrierRow } from "../documents/barriers";
import { decodeMessage, encodeMessage } from "../documents/codec";
import { inboxRow } from "../documents/inbox";
import type { Transactions } from "../documents/transactions";
import type { InsertOutcome } from "../store-records";
import { type MongoConnection, WRITE_CONCERN } from "./connection";
import { isDuplicate, isForeignSession, isTransient, mongoError, unavailable } from "./errors";

/** How long a row that another transaction has committed may take to be replicated, before this is no answer. */
const LOOK = { forMs: 5000, everyMs: 100 };

interface Transaction {
  options?: { writeConcern?: { w?: unknown; j?: boolean; journal?: boolean } };
}

class AlreadyHandled extends Error {}

/** The collections inside a transaction: the user's, or the inbox's own. */
export class MongoTransactions implements Transactions {
  readonly #barriers: Barriers;

  constructor(private readonly connection: MongoConnection) {
    this.#barriers = new Barriers(connection);
  }

  /** A write conflict is thrown unchanged, because only then the caller's `withTransaction` repeats. */
  async insertIn(session: unknown, message: Message): Promise<InsertOutcome> {
    const { messages } = this.connection.collections;
    const theirs = this.#sessionOf(session);
    if (theirs.hasEnded) throw badSession("it has ended");
    if (!theirs.inTransaction())
      throw badSession("it has no transaction open; emit inside `session.withTransaction(…)`");
    refuseBelowMajority(theirs);
    try {
      // Looked up first: a duplicate key error would abort the caller's transaction.
      const existing = await messages.findIn(theirs, message._id);
      if (existing) return { stored: false, existing: decodeMessage(existing) };
      await messages.insertIn(theirs, encodeMessage(message));
      return { stored: true };
    } catch (thrown) {
      if (isTransient(thrown)) throw thrown;
      throw isForeignSession(thrown)
        ? badSession(reasonOf(thrown))
        : mongoError(`insert of ${message._id} in the given session`, thrown);
    }
  }

  onSessionEnd(session: unknown, listener: () => void): void {
    const theirs = this.#sessionOf(session);
    if (theirs.hasEnded) queueMicrotask(listener);
    else theirs.once("ended", () => listener());
  }

  /**
   * The driver runs `work` again when the transaction lost a write conflict, so `work` must have no effect outside of
   * the session.
   */
  async barrier(session: unknown, id: string): Promise<void> {
    const theirs = this.#sessionOf(session);
    if (!theirs.inTransaction())
      throw badSession(
        "it has no transaction open; call `message.barrier(session)` inside the transaction of the business write"
      );
    refuseBelowMajority(theirs);
    try {
      await this.connection.collections.barriers.insertIn(
        theirs,
        barrierRow(id, BARRIER.committed, this.connection.now())
      );
    } catch (thrown) {
      if (isDuplicate(thrown)) throw await this.#barred(id, thrown);
      if (isTransient(thrown)) throw thrown;
      throw isForeignSession(thrown) ? badSession(reasonOf(thrown)) : mongoError(`the barrier of ${id}`, thrown);
    }
  }

  async #barred(id: string, thrown: unknown): Promise<Error> {
    const [row] = await this.connection.collections.barriers.find({ _id: id });
    if (!row)
      return badSession(
        `the barrier row of ${id} is written already, by its own transaction or by one that may still be undone`
      );
    return row.state === BARRIER.committed
      ? new ReliableError(
          "RELIABLE_DUPLICATE_ID",
          `The business write of message '${id}' was committed before; this transaction must not commit.`,
          { id },
          thrown
        )
      : new ReliableError(
          "RELIABLE_WITHDRAWN",
          `The message '${id}' was withdrawn before its business write was committed; the transaction must not commit.`,
          { id },
          thrown
        );
  }

  fence(id: string): Promise<"committed" | "fenced"> {
    return this.#barriers.fence(id);
  }

  rolledBack(id: string): Promise<boolean> {
    return this.#barriers.rolledBack(id);
  }

  async inbox(
    group: string,
    id: string,
    at: Date,
    work: (session: unknown) => Promise<void>
  ): Promise<"handled" | "duplicate"> {
    const { inbox } = this.connection.collections;
    const session = (this.connection.client as MongoClient).startSession();
    let own: { thrown: unknown } | undefined;
    const attempt = async (): Promise<void> => {
      own = undefined;
      await inbox.insertIn(session, inboxRow(group, id, at)).catch((thrown: unknown) => {
        throw isDuplicate(thrown) ? new AlreadyHandled() : thrown;
      });
      try {
        await work(session);
      } catch (thrown) {
        own = { thrown };
        throw thrown;
      }
    };
    try {
      await session.withTransaction(attempt, { readConcern: { level: "snapshot" }, writeConcern: WRITE_CONCERN });
      return "handled";
    } catch (thrown) {
      if (thrown instanceof AlreadyHandled) return await this.#duplicate(group, id, at);
      throw own ? own.thrown : mongoError(`the transaction for ${id}`, thrown);
    } finally {
      await session.endSession();
    }
  }

  /**
   * In a transaction the server tells of a row before it is replicated, and an election may undo that one with the
   * handler's writes.
   */
  async #duplicate(group: string, id: string, at: Date): Promise<"duplicate"> {
    const { _id } = inboxRow(group, id, at);
    const { clock } = this.connection;
    const until = clock.monotonic() + LOOK.forMs;
    for (;;) {
      const [row] = await this.connection.collections.inbox.find({ _id }, { fields: ["_id"] });
      if (row) return "duplicate";
      if (clock.monotonic() > until)
        throw unavailable(`the transaction for ${id}`, new Error("another one that handled it is not replicated"));
      await clock.sleep(LOOK.everyMs);
    }
  }

  #sessionOf(session: unknown): ClientSession {
    const theirs = session as (ClientSession & { client?: unknown }) | undefined;
    if (typeof theirs?.inTransaction !== "function" || typeof theirs.once !== "function")
      throw badSession("it is no ClientSession of the MongoDB driver");
    if (theirs.client && theirs.client !== this.connection.client)
      throw badSession("it is of another MongoClient than the store's; pass your client as the option `mongo`");
    return theirs;
  }
}

/** What is emitted would be sent, and an election could then undo the transaction and its business data. */
function refuseBelowMajority(session: ClientSession): void {
  const { w, j, journal } = (session as { transaction?: Transaction }).transaction?.options?.writeConcern ?? {};
  if (typeof w === "number" || j === false || journal === false)
    throw badSession(
      `its transaction's write concern (${JSON.stringify({ w, j: j ?? journal })}) is below majority, so an election may undo it; use \`{ w: "majority" }\``
    );
}

function badSession(why: string): ReliableError {
  return new ReliableError("RELIABLE_BAD_SESSION", `The given \`session\` cannot be used: ${why}.`, {});
}
