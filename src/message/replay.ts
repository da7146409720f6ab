import { createHash } from "node:crypto";
import { STATUS } from "./lifecycle";
import {
  ANY_GROUP,
  bucketOf,
  type ListedMessage,
  type Message,
  type Note,
  openAtOf,
  type Replay,
  ROW_VERSION
} from "./message";
import { namesGroup } from "./pattern";
import { queueTargetOfMessage } from "./queue-target";

/** A row of the time that is replayed, as far as it has to be known to choose it. */
export type Kept = ListedMessage;

/** What is replayed, and to whom. */
export interface ReplayScope {
  event?: string;
  /** Emitted from then on, and before then. */
  from: Date;
  to: Date;
  again: boolean;
}

/** Enough that no two ids of one replay are alike, and short enough for any place that an id has. */
const DIGEST_CHARS = 32;

/** The same whoever makes it, so that it is made once. Those of one replay begin alike, and are found by it. */
export function replayId(bulk: string, original: string): string {
  return `${bulk}.${createHash("sha256").update(original).digest("hex").slice(0, DIGEST_CHARS)}`;
}

/** Emitted in this time, and no replay itself. Others are not counted. */
export function isMeant({ event, replay, ...kept }: Kept, scope: ReplayScope): boolean {
  const { from, to } = scope;
  const at = openAtOf(kept);
  return !replay && at >= from && at < to && (scope.event === undefined || event === scope.event);
}

/**
 * Who of `takers` (the handlers of the group that take its event) gets it: not whom it is not addressed to, who waits
 * for it or has failed for good in it; who has handled it, or for whom a human has resolved it, only with `again`.
 */
export function recipientsOf(kept: Kept, takers: string[], again: boolean): string[] {
  const { groups, waiting, failed, resolved, receipts, status } = kept;
  if (queueTargetOfMessage(kept)) return [];
  return takers.filter(
    taker =>
      (!groups || groups.some(name => namesGroup(name, taker))) &&
      !waiting.some(name => name === ANY_GROUP || namesGroup(name, taker)) &&
      (!failed.includes(taker) || (again && status === STATUS.resolved)) &&
      (again || (!receipts[taker] && !resolved.includes(taker)))
  );
}

/**
 * The taker has it by another replay's copy of it: it has handled that, or waits for it; or a human has resolved it,
 * or is to look at it. What a human has released the group from does not count.
 */
export function isCopiedTo(
  { waiting, failed, resolved, receipts }: Pick<Kept, "waiting" | "failed" | "resolved" | "receipts">,
  taker: string
): boolean {
  return [...waiting, ...failed, ...resolved].includes(taker) || receipts[taker] !== undefined;
}

/** Its payload is in the store. JSON is never empty: without a byte it is with its producer. */
export function hasPayload({ droppedAt, bytes, partial }: Pick<Kept, "droppedAt" | "bytes" | "partial">): boolean {
  return droppedAt === undefined && bytes > 0 && !partial;
}

/** The message of its own that is sent to these groups. */
export function replayedOf(original: Message, replay: Replay, groups: string[], note: Note): Message {
  const _id = replayId(replay.bulk, replay.of);
  const { event, body, meta, headers, origin, producer, keys, encoded } = original;
  const { unroutableMs, maxAttempts, backoff, receiptTimeoutMs } = original;
  const { at } = note;
  return {
    ...{ _id, v: ROW_VERSION, event, body, meta, headers, origin, strategy: "outbox", producer },
    ...(keys && { keys }),
    ...(encoded && { encoded }),
    ...{ groups, waiting: groups, failed: [], resolved: [], status: STATUS.pending, dueAt: at, bucket: bucketOf(_id) },
    ...{ deadAt: {}, errors: {}, receipts: {}, attempts: {}, spent: {}, base: {}, next: {}, unroutable: {} },
    ...{ unroutableMs, maxAttempts, backoff, receiptTimeoutMs, failures: [], createdAt: at, at },
    ...{ bulk: replay.bulk, replay, notes: [note] }
  };
}
