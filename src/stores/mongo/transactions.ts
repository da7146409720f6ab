import type { ClientSession, MongoClient } from "mongodb";
import { ReliableError, reasonOf } from "../../errors";
import type { Message } from "../../message/message";
import { BARRIER, Barriers, barrierRow } from "../documents/barriers";
import { bodyIdOf, splitRow } from "../documents/bodies";
import { decodeMessage, encodeMessage } from "../documents/codec";
import type { Doc } from "../documents/collection";
import { inboxRow } from "../documents/inbox";
import type { Transactions } from "../documents/transactions";
import type { InboxOutcome, InsertOutcome } from "../store-records";
import { type MongoConnection, WRITE_CONCERN } from "./connection";
import { isDuplicate, isForeignSession, isTransient, isUnanswered, mongoError, unavailable } from "./errors";
import { OpenTransaction } from "./open-transaction";

/** How long a row that another transaction has committed may take to be replicated, before this is no answer. */
const LOOK = { forMs: 5000, everyMs: 100 };

interface Transaction {
  options?: { writeConcern?: { w?: unknown; j?: boolean; journal?: boolean } };
}

/** Messages for one transaction, and what becomes of each. */
interface Gathering {
  transaction: OpenTransaction;
  messages: Message[];
  /** What is to be done before they are inserted. */
  before: Promise<unknown>[];
  done: Promise<(InsertOutcome | "over")[]>;
}

/** A commit without an answer is repeated, which is harmless; each try may take as long as a write concern's wait. */
const MAX_COMMITS = 3;

/** The collections inside a transaction: the user's, or the inbox's own. */
export class MongoTransactions implements Transactions {
  readonly #barriers: Barriers;
  /** The last insert in each session: a transaction takes one command at a time. */
  readonly #inserts = new WeakMap<ClientSession, Promise<unknown>>();
  /** What is given to a session while its turn has not come is inserted together. */
  readonly #gathering = new WeakMap<ClientSession, Gathering>();

  constructor(private readonly connection: MongoConnection) {
    this.#barriers = new Barriers(connection);
  }

  /**
   * A write conflict is thrown unchanged, because only then the caller's `withTransaction` repeats. The transaction is
   * the one that is open at the call.
   */
  async insertIn(session: unknown, message: Message, before?: Promise<unknown>): Promise<InsertOutcome> {
    const theirs = this.#sessionOf(session);
    if (theirs.hasEnded) throw badSession("it has ended");
    if (!theirs.inTransaction())
      throw badSession("it has no transaction open; emit inside `session.withTransaction(…)`");
    const open = this.#gathering.get(theirs);
    const gathering = open && !open.transaction.over ? open : this.#gather(theirs);
    const at = gathering.messages.push(message) - 1;
    if (before) gathering.before.push(before);
    const { transaction } = gathering;
    const { _id } = message;
    try {
      const outcome = (await gathering.done)[at] as InsertOutcome | "over";
      if (outcome === "over") throw transactionOver(_id);
      return outcome;
    } catch (thrown) {
      throw failureIn(transaction, _id, thrown, `insert of ${_id} in the given session`);
    }
  }

  #gather(theirs: ClientSession): Gathering {
    const gathering: Gathering = {
      transaction: new OpenTransaction(theirs),
      messages: [],
      before: [],
      done: Promise.resolve([])
    };
    gathering.done = this.#inTurn(theirs, async transaction => {
      // Lets all emits of this turn of the event loop in.
      await Promise.resolve();
      if (this.#gathering.get(theirs) === gathering) this.#gathering.delete(theirs);
      await Promise.all(gathering.before);
      return this.#insert(transaction, gathering.messages);
    });
    this.#gathering.set(theirs, gathering);
    return gathering;
  }

  /** In the transaction that is open now, after what was given to it before. */
  #inTurn<T>(theirs: ClientSession, insert: (transaction: OpenTransaction) => Promise<T>): Promise<T> {
    refuseBelowMajority(theirs);
    const transaction = new OpenTransaction(theirs);
    const before = this.#inserts.get(theirs);
    const work = () => insert(transaction);
    const mine = before ? before.then(work, work) : work();
    this.#inserts.set(theirs, mine);
    return mine;
  }

  async #insert(transaction: OpenTransaction, messages: Message[]): Promise<(InsertOutcome | "over")[]> {
    const { collections } = this.connection;
    const { session } = transaction;
    const ids = [...new Set(messages.map(({ _id }) => _id))];
    const outcomes: InsertOutcome[] = [];
    // Looked up first: a duplicate key error would abort the caller's transaction.
    const found = new Map((await collections.messages.findIn(session, ids)).map(doc => [doc._id, doc]));
    const fresh = new Map<string, Message>();
    for (const message of messages) {
      const { _id } = message;
      const existing = found.get(_id);
      const twin = fresh.get(_id);
      if (existing) outcomes.push({ stored: false, existing: decodeMessage(await this.#whole(session, existing)) });
      else if (twin) outcomes.push({ stored: false, existing: twin });
      else {
        fresh.set(_id, message);
        outcomes.push({ stored: true });
      }
    }
    await this.#insertSplit(session, [...fresh.values()]);
    if (!transaction.over) return outcomes;
    // It was over before the answer: the rows are there if that was a commit.
    const rows = await collections.messages.find({ _id: { $in: ids } }, { fields: ["_id"] });
    const there = new Set(rows.map(({ _id }) => _id));
    return outcomes.map((outcome, i) => (there.has((messages[i] as Message)._id) ? outcome : "over"));
  }

  async #insertSplit(session: ClientSession, fresh: Message[]): Promise<void> {
    const { messages, bodies } = this.connection.collections;
    const split = fresh.map(message => splitRow(encodeMessage(message), this.connection.now()));
    await bodies.insertIn(
      session,
      split.flatMap(({ body }) => body ?? [])
    );
    await messages.insertIn(
      session,
      split.map(({ row }) => row)
    );
  }

  async #whole(session: ClientSession, doc: Doc): Promise<Doc> {
    const id = bodyIdOf(doc);
    if (id === undefined) return doc;
    const [found] = await this.connection.collections.bodies.findIn(session, [id]);
    return { ...doc, body: found?.body };
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
    return this.#inTurn(theirs, transaction => this.#bar(transaction, id));
  }

  async #bar(transaction: OpenTransaction, id: string): Promise<void> {
    const { barriers } = this.connection.collections;
    const { committed } = BARRIER;
    try {
      await barriers.insertIn(transaction.session, [barrierRow(id, committed, this.connection.now())]);
    } catch (thrown) {
      if (isDuplicate(thrown)) throw await this.#barred(id, thrown);
      throw failureIn(transaction, id, thrown, `the barrier of ${id}`);
    }
    // As above.
    if (transaction.over && !(await barriers.find({ _id: id, state: committed })).length) throw transactionOver(id);
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

  async inbox(group: string, id: string, at: Date, work: (session: unknown) => Promise<void>): Promise<InboxOutcome> {
    const session = (this.connection.client as MongoClient).startSession();
    let own: { thrown: unknown } | undefined;
    try {
      session.startTransaction({ readConcern: { level: "snapshot" }, writeConcern: WRITE_CONCERN });
      await this.connection.collections.inbox.insertIn(session, [inboxRow(group, id, at)]);
      await work(session).catch((thrown: unknown) => {
        own = { thrown };
        throw thrown;
      });
      // The handler may have ended it itself.
      if (session.inTransaction()) await commit(session);
      return "handled";
    } catch (thrown) {
      if (!own && isDuplicate(thrown)) return await this.#duplicate(group, id, at);
      // A handler may have wrapped it.
      if (isTransient(thrown) || isTransient((thrown as Error | undefined)?.cause)) return { conflict: thrown };
      throw own ? own.thrown : mongoError(`the transaction for ${id}`, thrown);
    } finally {
      // Aborts what is not committed.
      await session.endSession();
    }
  }

  async lifetimeMs(): Promise<number | undefined> {
    const client = this.connection.client as MongoClient;
    const answer = await client.db("admin").command({ getParameter: 1, transactionLifetimeLimitSeconds: 1 });
    const seconds: unknown = answer.transactionLifetimeLimitSeconds;
    return typeof seconds === "number" ? seconds * 1000 : undefined;
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

function failureIn(transaction: OpenTransaction, id: string, thrown: unknown, what: string): unknown {
  if (thrown instanceof ReliableError) return thrown;
  // Without an answer it is not known whether it was in time.
  if (transaction.over && !isUnanswered(thrown)) return transactionOver(id, thrown);
  // Unchanged, so that the caller's `withTransaction` repeats.
  if (isTransient(thrown)) return thrown;
  return isForeignSession(thrown) ? badSession(reasonOf(thrown)) : mongoError(what, thrown);
}

function transactionOver(id: string, cause?: unknown): ReliableError {
  return new ReliableError(
    "RELIABLE_BAD_SESSION",
    `The given \`session\` cannot be used: its transaction was over before '${id}' was stored in it; nothing was stored. Await the emit inside of the transaction.`,
    { id },
    cause
  );
}

async function commit(session: ClientSession): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return void (await session.commitTransaction());
    } catch (thrown) {
      if (!isUnknownCommit(thrown) || tries === MAX_COMMITS) throw thrown;
    }
  }
}

function isUnknownCommit(thrown: unknown): boolean {
  const error = thrown as { hasErrorLabel?(label: string): boolean };
  return error.hasErrorLabel?.("UnknownTransactionCommitResult") === true;
}
