import type { ReliableError } from "../errors";
import type { HistoryRecord, HistoryUnit } from "../message/history";

/** What the nodes have counted, by minute and by hour. */
export interface HistoryStore {
  /**
   * Per record: false = its `_id` is there already, and it stays as it is; an error = the store refuses it for what it
   * is. Repeating it is harmless.
   */
  add(records: HistoryRecord[]): Promise<(boolean | ReliableError)[]>;
  /**
   * Oldest first, up to `limit`. Of an hour whose minutes are being folded both may be there: whoever reads minutes first
   * and then hours, and leaves out a node's minutes of which its hour is there, counts all of them once.
   */
  between(unit: HistoryUnit, from: Date, to: Date, limit: number): Promise<{ records: HistoryRecord[]; more: boolean }>;
  /**
   * The oldest hour of one node that has ended by then: its minutes become one record, and are deleted. False = there is
   * none. Repeating it is harmless.
   */
  fold(before: Date): Promise<boolean>;
  /** Deletes a page of `limit` hours that are older. True = the page was full. */
  drop(before: Date, limit: number): Promise<boolean>;
}
