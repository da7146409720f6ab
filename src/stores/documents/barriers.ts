import { ReliableRetryableError } from "../../errors";
import type { Database, Doc } from "./collection";

/** What a barrier row says. The first of the two writers wins; the key is the message's id. */
export const BARRIER = {
  /** Written in the business transaction: the business write has happened. */
  committed: "committed",
  /** Written by the one who asks: the business write has not happened and cannot happen any more. */
  withdrawn: "withdrawn"
} as const;

/** The row that is said to be there can be gone when it is read, but not again and again. */
const MAX_FENCES = 5;

/** A row that only shows that the store takes writes. No message's id has a control character. */
export const PROBE_ID = "\u0001probe";

export function barrierRow(id: string, state: keyof typeof BARRIER, at: Date): Doc {
  return { _id: String(id), state, at };
}

/** Barrier rows, for the question whether a business write has happened. */
export class Barriers {
  constructor(private readonly db: Database) {}

  async fence(id: string): Promise<"committed" | "fenced"> {
    for (let tries = 1; tries <= MAX_FENCES; tries++) {
      const answer = await this.#fence(id);
      if (answer) return answer;
    }
    const text = `The fence of ${id}: a unique index says that it is there, and there is no such row.`;
    throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", text, { id });
  }

  async #fence(id: string): Promise<"committed" | "fenced" | undefined> {
    const { barriers } = this.db.collections;
    // A business transaction that has written its row and not yet ended blocks this insert until it ends, so the answer
    // is definite.
    const [fenced] = await barriers.insert([barrierRow(id, BARRIER.withdrawn, this.db.now())]);
    if (fenced) return "fenced";
    const [row] = await barriers.find({ _id: id });
    // Pruned since, or not replicated yet: neither says that the business write did not happen.
    return row && (row.state === BARRIER.committed ? "committed" : "fenced");
  }

  async rolledBack(id: string): Promise<boolean> {
    if ((await this.fence(id)) === "committed") return false;
    // The row was needed only to wait for the transaction's end.
    await this.db.collections.barriers.remove({ _id: id, state: BARRIER.withdrawn });
    return true;
  }
}
