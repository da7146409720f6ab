import type { Context, Service } from "moleculer";
import type { EraseParams } from "../src/operator/erase";
import { storageOf, visibility, who } from "./act.actions";
import { ACT, asParams, flag, text, textOf } from "./action-params";

/** Personal data: an act like the others, on record. */
export const eraseActions = {
  erase: {
    visibility,
    params: { $$strict: true, key: textOf(300, false), note: ACT.note, by: text, dryRun: flag },
    handler(this: Service, ctx: Context<EraseParams>) {
      const { by, ...params } = asParams(ctx.params);
      return storageOf(this).operations.erase(params, who(ctx, by));
    }
  }
};
