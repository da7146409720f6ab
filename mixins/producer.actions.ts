import type { Context } from "moleculer";
import type { DeadNews } from "../src/options/hooks";
import { DEAD_ACTION, DEAD_PARAMS } from "../src/wire/dead";
import { RESEND_ACTION, RESEND_PARAMS, type ResendAnswer, type ResendRequest } from "../src/wire/resend";
import type { Schema } from "./reliable-events";
import type { Mixed, State } from "./service-state";

/** Asked by the callback service and the sweeper, never by users: see `src/producer-rpc/`. */
export const producerActions = {
  [RESEND_ACTION]: {
    visibility: "public",
    params: RESEND_PARAMS,
    handler(this: Mixed, ctx: Context<ResendRequest>): Promise<ResendAnswer> {
      const { runtime, options: service } = this.$reliable as State;
      return runtime.answer(ctx.params, service);
    }
  }
};

/** Only where there is a hook: its presence in the registry says so to the other nodes. */
export function addDeadAction(schema: Schema): void {
  schema.actions = {
    ...schema.actions,
    [DEAD_ACTION]: {
      visibility: "public",
      params: DEAD_PARAMS,
      handler(this: Mixed, ctx: Context<DeadNews>): Promise<void> {
        const { runtime, options: service } = this.$reliable as State;
        return runtime.died(ctx.params, service);
      }
    }
  };
}
