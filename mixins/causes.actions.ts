import type { Context, Service } from "moleculer";
import type { CausesParams } from "../src/operator/causes";
import { storageOf, visibility } from "./act.actions";
import { asParams, FILTER, limit } from "./action-params";

/** What messages have died of. Errors: RELIABLE_BAD_OPTION. */
export const causesActions = {
  causes: {
    visibility,
    params: { $$strict: true, ...FILTER, limit },
    handler(this: Service, ctx: Context<CausesParams>) {
      return storageOf(this).operations.causes(asParams(ctx.params));
    }
  }
};
