import { ReliableError } from "../errors";
import type { Message } from "../message/message";
import { BARRIER, Barriers, barrierRow } from "../stores/documents/barriers";
import type { Transactions } from "../stores/documents/transactions";
import type { EmbeddedStore } from "../stores/embedded/store";
import type { InboxOutcome, InsertOutcome } from "../stores/store-records";

/** What is known of a session: of MongoDB's driver, of a user's stand-in, or one of our own. */
interface Session {
  hasEnded?: unknown;
  transaction?: { state?: unknown };
  inTransaction?(): boolean;
  once?(event: "ended", listener: () => void): unknown;
}

/** Of the inbox: handed to the handler. What is emitted in it is stored when the handler has succeeded. */
class OwnSession implements Session {
  readonly messages: Message[] = [];
  readonly listeners: (() => void)[] = [];
  hasEnded = false;

  inTransaction(): boolean {
    return !this.hasEnded;
  }

  once(_: "ended", listener: () => void): void {
    this.listeners.push(listener);
  }
}

/** Rows that wait for the end of a session. */
interface Ending {
  messages: Message[];
  stored: Promise<unknown>;
}

/**
 * What a test needs of transactions, without a server: what is emitted with a session is stored when its transaction has
 * been committed, and not when it was aborted. A session that cannot tell its end (a stand-in) is taken for committed at
 * once. The user's own writes are no part of it.
 */
export class TestTransactions implements Transactions {
  readonly #endings = new WeakMap<object, Ending>();

  constructor(private readonly store: () => EmbeddedStore) {}

  async insertIn(session: unknown, message: Message): Promise<InsertOutcome> {
    const theirs = sessionOf(session);
    const [existing] = await this.store().messages.find([message._id]);
    if (existing) return { stored: false, existing };
    if (theirs instanceof OwnSession) theirs.messages.push(message);
    else if (typeof theirs.once === "function") this.#endingOf(theirs).messages.push(message);
    else await this.store().messages.insert([message]);
    return { stored: true };
  }

  onSessionEnd(session: unknown, listener: () => void): void {
    const theirs = sessionOf(session);
    if (theirs instanceof OwnSession) theirs.once("ended", listener);
    else if (typeof theirs.once !== "function") queueMicrotask(listener);
    else {
      const ending = this.#endingOf(theirs);
      theirs.once("ended", () => void ending.stored.then(listener, listener));
    }
  }

  /** Its listener is the first, so that `stored` is that of what was committed. */
  #endingOf(theirs: Session): Ending {
    const there = this.#endings.get(theirs);
    if (there) return there;
    const ending: Ending = { messages: [], stored: Promise.resolve() };
    this.#endings.set(theirs, ending);
    theirs.once?.("ended", () => {
      this.#endings.delete(theirs);
      // The driver's `isCommitted` is true of an aborted one as well.
      const aborted = theirs.transaction?.state === "TRANSACTION_ABORTED";
      if (!aborted && ending.messages.length) ending.stored = this.store().messages.insert(ending.messages);
    });
    return ending;
  }

  async barrier(session: unknown, id: string): Promise<void> {
    sessionOf(session);
    const { collections } = this.store();
    const [written] = await collections.barriers.insert([barrierRow(id, BARRIER.committed, this.store().now())]);
    if (written) return;
    const [row] = await collections.barriers.find({ _id: id });
    throw row?.state === BARRIER.withdrawn
      ? new ReliableError("RELIABLE_WITHDRAWN", `The message '${id}' was withdrawn; its write must not commit.`, { id })
      : new ReliableError("RELIABLE_DUPLICATE_ID", `The business write of message '${id}' was committed before.`, {
          id
        });
  }

  fence(id: string): Promise<"committed" | "fenced"> {
    return new Barriers(this.#database).fence(id);
  }

  rolledBack(id: string): Promise<boolean> {
    return new Barriers(this.#database).rolledBack(id);
  }

  async inbox(group: string, id: string, at: Date, work: (session: unknown) => Promise<void>): Promise<InboxOutcome> {
    const { inbox, messages } = this.store();
    if ((await inbox.handled(group, [id])).has(id)) return "duplicate";
    const session = new OwnSession();
    try {
      await work(session);
      if (session.messages.length) await messages.insert(session.messages);
      await inbox.add(group, [id], at);
      return "handled";
    } finally {
      session.hasEnded = true;
      for (const listener of session.listeners) listener();
    }
  }

  async lifetimeMs(): Promise<undefined> {}

  get #database() {
    const store = this.store();
    return { collections: store.collections, now: () => store.now() };
  }
}

function sessionOf(session: unknown): Session {
  const theirs = session as Session | null;
  const why =
    typeof theirs !== "object" || theirs === null
      ? "it is no session"
      : theirs.hasEnded === true
        ? "it has ended"
        : theirs.inTransaction?.() === false && "it has no transaction open";
  if (why) throw new ReliableError("RELIABLE_BAD_SESSION", `The given \`session\` cannot be used: ${why}.`, {});
  return theirs as Session;
}
