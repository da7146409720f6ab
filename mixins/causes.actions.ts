import type { Context, Service } from "moleculer";
import type { Filter } from "../src/operator/filter";
import { storageOf, visibility } from "./act.actions";
import { asParams, FILTER } from "./action-params";

/** What messages have died of. Errors: RELIABLE_BAD_OPTION. */
export const causesActions = {
  causes: {
    visibility,
    params: { $$strict: true, ...FILTER },
    handler(this: Service, ctx: Context<Filter>) {
      return storageOf(this).operations.causes(asParams(ctx.params));
    }
  }
};
