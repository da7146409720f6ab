import { STATUS } from "../../message/lifecycle";
import type { Failure, Note } from "../../message/message";
import type { IntentStore } from "../store";
import { decodeMessage } from "./codec";
import type { Change, Database, Filter } from "./collection";
import { CLOSED, NOT_ASKED } from "./rows";
import type { Transactions } from "./transactions";

/** Messages whose business write is not yet known to have happened. */
export class DocumentIntents implements IntentStore {
  constructor(
    private readonly db: Database,
    private readonly transactions: Transactions
  ) {}

  happened(id: string, dueAt: Date, body?: Buffer): Promise<boolean> {
    return this.#leaveIntended(id, {
      $set: { status: STATUS.pending, dueAt, ...(body && { body, bytes: body.length }) },
      $unset: NOT_ASKED
    });
  }

  withdraw(id: string, note: Note, createdAt?: Date): Promise<boolean> {
    return this.#leaveIntended(
      id,
      { $set: { status: STATUS.withdrawn, at: note.at }, $unset: CLOSED, $push: { notes: note } },
      createdAt && { createdAt }
    );
  }

  async expire(id: string, failure: Failure, reason: string): Promise<boolean> {
    const [doc] = await this.db.collections.messages.find({ _id: String(id) });
    if (!doc) return false;
    const message = decodeMessage(doc);
    // Groups in `waiting` still owe a receipt; an operator's retry gives them new attempts.
    const failed = [...new Set([...message.waiting, ...message.failed])];
    return this.#leaveIntended(id, {
      $set: { status: STATUS.dead, at: failure.at, reason, waiting: [], failed },
      $unset: CLOSED,
      $push: { failures: failure }
    });
  }

  barrier(session: unknown, id: string): Promise<void> {
    return this.transactions.barrier(session, id);
  }

  fence(id: string): Promise<"committed" | "fenced"> {
    return this.transactions.fence(id);
  }

  rolledBack(id: string): Promise<boolean> {
    return this.transactions.rolledBack(id);
  }

  async #leaveIntended(id: string, change: Change, more: Filter = {}): Promise<boolean> {
    const filter: Filter = { _id: String(id), status: STATUS.intended, ...more };
    return (await this.db.collections.messages.update(filter, change)) === 1;
  }
}
