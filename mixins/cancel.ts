import { actorOf } from "../src/operator/actor";
import type { CancelOptions } from "../src/operator/cancel";
import type { Mixed, State } from "./service-state";

/**
 * Takes back a scheduled message. Of this and its sending one wins. Rejects with RELIABLE_NOT_FOUND,
 * RELIABLE_ILLEGAL_TRANSITION (it is not scheduled any more), RELIABLE_NO_STORE, RELIABLE_BAD_OPTION.
 */
export async function reliableCancel(this: Mixed, id: string, options: CancelOptions = {}): Promise<void> {
  const { meta = {} } = (options?.ctx ?? {}) as { meta?: { user?: unknown } };
  const actor = actorOf({ meta, caller: this.fullName, nodeID: this.broker.nodeID });
  await (this.$reliable as State).runtime.needStorage().operations.cancelOne(id, options ?? {}, actor);
}
