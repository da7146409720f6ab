import type { Status } from "../message/lifecycle";
import { groupsOf, type Message } from "../message/message";
import type { PlainPayload } from "../outbound/encoding";
import type { BusinessWrite } from "./intent";
import type { Goal } from "./status-waiter";

/**
 * A strategy decides what has been promised when `reliableEmit` resolves, and nothing else: envelopes, consumers,
 * receipts, tracker, sweeper and store are the same for all.
 *
 * `outbox`: the message is durable in the store (MongoDB: write concern majority + journal). It is published right
 * afterwards, and what happens to that publish is not part of the promise: whatever fails, the row is there and comes
 * due for the sweeper.
 *
 *   process dies before the insert was sent      nothing was stored, the caller's promise never resolved
 *   … after it was sent, before the answer       unknown: the row may exist and will then be delivered; emit again with
 *                                                the same `id`
 *   … after the insert, before the publish       the row is `pending` and due after a grace: a sweeper publishes it
 *   … after the publish, before the confirm      the same; groups may get it twice, with the same id
 *   … after the confirm, before it is recorded   the same, unless a receipt comes first: it makes the row `consumed`
 *                                                from `pending` too
 *
 * `callback`: the broker has confirmed and routed the delayed check and the message, which go out together. Nothing is
 * stored here; the callback service (the nodes with a store) learns of the message by its first receipt, its failure or
 * its check, whichever comes first.
 *
 *   process dies before both have arrived        the caller's promise never resolved, and emitting again with the same
 *                                                `id` is safe
 *   … only the message has                       its groups handle it; a failed receipt brings it back
 *   … only the check has                         it comes, finds no receipts, and has the message sent
 *   … both have                                  receipts close it, or the check sends again to the groups that owe one
 *
 * With `commit` both put an intent first (a row `intended`; the check), then do the business write, then the message:
 *
 *   process dies before or in the business write the intent is asked about: the write did not happen → withdrawn, and
 *                                                it cannot happen later where a barrier row fences it
 *   … after the business write                   the intent is asked about: it happened → the message is sent
 *
 * Not promised: an order between messages, or that a group handles a message once only without its inbox.
 */
export interface Strategy {
  /**
   * Resolves when the strategy's promise holds. Rejects with an error that says whether nothing was stored or the
   * outcome is unknown.
   */
  emit(message: Message, conditions: EmitConditions): Promise<EmitResult>;
  /** Emits that wait for its promise, and the bytes of those that are not on their way yet. */
  readonly pending: number;
  readonly pendingBytes: number;
  /** Resolves when no emit and no publish of an emit is under way. */
  idle(): Promise<void>;
  /** Called when the node stops: an emit that still waits is rejected. */
  stop(): void;
}

export interface EmitConditions {
  /** The caller's MongoDB session. */
  session?: unknown;
  /** `session` was not given but is that of the handler that emits. */
  joined?: boolean;
  waitFor: "stored" | Goal;
  /** Runs between the intent and the message. */
  write?: BusinessWrite;
  /** Of an emit of a service with hooks: its payload as it was given. */
  plain?: PlainPayload;
  /** Limit in ms for the whole emit. */
  timeoutMs: number;
}

export interface EmitResult {
  id: string;
  /** `pending` when stored; the status that was found if `waitFor` asked for more or if the `id` was stored before. */
  status: Status;
  /**
   * The groups that are to handle it, as known at the emit; none = nobody is known to take this event (on a node without
   * a store nobody is ever known). A queue for jobs: `queue/<name>` or `queue-confirm/<name>`.
   */
  groups: string[];
}

/** What became of one item, in the order of the items: as `Promise.allSettled` tells it. */
export type EmitOutcome = PromiseSettledResult<EmitResult>;

/** Of a new message, or of the one that the id had before. */
export function resultOf(message: Message, status: Status): EmitResult {
  return { id: message._id, status, groups: groupsOf(message) };
}
