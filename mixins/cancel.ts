import { type CancelOptions, checkCancel } from "../src/emit/cancel";
import { actorOf } from "../src/operator/actor";
import type { Mixed, State } from "./service-state";

/**
 * Takes back a scheduled message. Of this and its sending one wins. Rejects with RELIABLE_NOT_FOUND,
 * RELIABLE_ILLEGAL_TRANSITION (it is not scheduled any more), RELIABLE_NO_STORE, RELIABLE_BAD_OPTION.
 */
export async function reliableCancel(
  this: Mixed,
  id: string,
  { note = "no reason given", ctx }: CancelOptions = {}
): Promise<void> {
  const { runtime } = this.$reliable as State;
  checkCancel(id, { note });
  const { meta = {} } = (ctx ?? {}) as { meta?: { user?: unknown } };
  const actor = actorOf({ meta, caller: this.fullName, nodeID: this.broker.nodeID });
  await runtime.needStorage().operations.cancel({ id, note }, actor);
}
