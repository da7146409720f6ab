import { groupErrorOf } from "../../message/failure-text";
import { lastErrorOf } from "../../message/last-error";
import { STATUS } from "../../message/lifecycle";
import { type Failure, LIBRARY, type Note } from "../../message/message";
import type { IntentStore } from "../store";
import type { Happened } from "../store-records";
import { decodeMessage, pathOf } from "./codec";
import type { Change, Database, Filter } from "./collection";
import { CLOSED, failureKept, lastErrorsKept, NOT_ASKED, noted, OUT } from "./rows";
import type { Transactions } from "./transactions";

/** Messages whose business write is not yet known to have happened. */
export class DocumentIntents implements IntentStore {
  constructor(
    private readonly db: Database,
    private readonly transactions: Transactions
  ) {}

  happened(id: string, dueAt: Date, { body, encoded, note }: Happened = {}): Promise<boolean> {
    return this.#leaveIntended(id, {
      $set: {
        status: STATUS.pending,
        dueAt,
        ...(body && { body, bytes: body.length }),
        ...(body && encoded && { encoded })
      },
      $unset: { ...NOT_ASKED, ...(body && !encoded && { encoded: true }) },
      ...(note && { $push: noted(note) })
    });
  }

  withdraw(id: string, note: Note, createdAt?: Date): Promise<boolean> {
    return this.#leaveIntended(
      id,
      { $set: { status: STATUS.withdrawn, at: note.at }, $unset: OUT, $push: noted(note) },
      createdAt && { createdAt }
    );
  }

  async expire(id: string, failure: Failure, reason: string): Promise<boolean> {
    const [doc] = await this.db.collections.messages.find({ _id: String(id) });
    if (!doc) return false;
    const message = decodeMessage(doc);
    // Groups in `waiting` still owe a receipt; an operator's retry gives them new attempts.
    const failed = [...new Set([...message.waiting, ...message.failed])];
    const { at, nodeID: by = LIBRARY } = failure;
    const error = groupErrorOf(failure);
    const each = failed.flatMap(group => [
      [pathOf("deadAt", group), at],
      [pathOf("errors", group), error]
    ]);
    return this.#leaveIntended(id, {
      $set: { status: STATUS.dead, at, reason, waiting: [], failed, ...Object.fromEntries(each) },
      $unset: CLOSED,
      $push: {
        ...failureKept(failure),
        ...noted({ at, by, act: "dead", note: reason, groups: failed }),
        ...lastErrorsKept(failed.map(group => lastErrorOf(group, failure, at)))
      }
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
