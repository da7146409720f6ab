import { TypedEmitter } from "../async/typed-emitter";
import type { Message } from "../message/message";
import type { LaneEnd, Turn } from "../stores/lane-store";
import type { DeadMessage } from "../stores/store-records";
import type { Look } from "../wire/control";

/** A breaker has opened, or closed again. */
export interface BreakerNews {
  group: string;
  pattern: string;
  node: string;
  state: "open" | "closed";
  /** When it opened. */
  since: Date;
  /** The failure by which it opened. */
  error: string;
}

/** What an operator did with messages; or, of a cancel, their service. */
export type Act = "retried" | "resolved" | "discarded" | "cancelled";

export interface StoppedBulk {
  id: string;
  act: string;
  by: string;
  why: string;
  done: number;
  matched: number;
}

/**
 * What happened on this node, for all who listen: the mixins emit it as Moleculer events, the confirm buffer and the
 * status waiter drop finished messages. A part that has news emits it here and does not know the listeners.
 */
export class Events extends TypedEmitter<{
  /** Every expected group has handled them. */
  consumed: [ids: string[]];
  /** Groups that have failed for good, each with its message: an operator has to look. */
  dead: [messages: DeadMessage[]];
  /** They were retried, resolved, discarded or cancelled. */
  acted: [act: Act, ids: string[], by: string];
  /** A bulk act has stopped itself, or has failed: an operator has to look. */
  bulkStopped: [bulk: StoppedBulk];
  /** An operator has paused a group, or one of its patterns; or resumed it. */
  paused: [what: { group: string; pattern?: string }, by: string, note: string];
  resumed: [what: { group: string; pattern?: string }, by: string, note: string | undefined];
  /** A group's consumers of this node take one message at a time, or all again. */
  breaker: [news: BreakerNews];
  /** Messages with these order keys have left the line of the groups, or may have. */
  left: [ends: LaneEnd[]];
  /** It is their turn. */
  turns: [turns: Turn[]];
  /** Likewise, and they were stored under this claim. */
  claimed: [messages: Message[], claim: string, turns: Turn[]];
  /** A node that does none of the cluster's work has begun something: see `SweepNews`. */
  toDo: [look: Look];
  /** A failure in the background. `module`: the part of the library it comes from. */
  error: [error: unknown, module: string];
}> {}
