import { TypedEmitter } from "../async/typed-emitter";
import type { DeadMessage } from "../stores/store";

/** What a human did with messages. */
export type Act = "retried" | "resolved" | "discarded";

/**
 * What happened on this node, for those who want to know: the mixins tell it as Moleculer events, the confirm buffer and
 * the status waiter drop what has come to its end. A part that has news emits here; it knows nobody who listens.
 */
export class Events extends TypedEmitter<{
  /** Every expected group has handled them. */
  consumed: [ids: string[]];
  /** Their attempts are spent; they wait for a human. */
  dead: [messages: DeadMessage[]];
  /** A human has retried, resolved or discarded them. */
  acted: [act: Act, ids: string[], by: string];
  /** A failure in the background that nobody waits for. `module`: which part of the library it is of. */
  error: [error: unknown, module: string];
}> {}
