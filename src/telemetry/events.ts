import { TypedEmitter } from "../async/typed-emitter";
import type { DeadMessage } from "../stores/store-records";

/** What an operator did with messages. */
export type Act = "retried" | "resolved" | "discarded";

/**
 * What happened on this node, for all who listen: the mixins emit it as Moleculer events, the confirm buffer and the
 * status waiter drop finished messages. A part that has news emits it here and does not know the listeners.
 */
export class Events extends TypedEmitter<{
  /** Every expected group has handled them. */
  consumed: [ids: string[]];
  /** They have no attempts left and wait for an operator. */
  dead: [messages: DeadMessage[]];
  /** An operator has retried, resolved or discarded them. */
  acted: [act: Act, ids: string[], by: string];
  /** A failure in the background. `module`: the part of the library it comes from. */
  error: [error: unknown, module: string];
}> {}
