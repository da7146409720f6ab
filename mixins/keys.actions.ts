import type { Context, Service } from "moleculer";
import type { KeysParams, SkipParams } from "../src/operator/held-keys";
import { storageOf, visibility, who } from "./act.actions";
import { ACT, asParams, flag, pageSize, text, textOf } from "./action-params";

/** Order keys that are held. Errors: see `keys` and `skip`. */
export const keysActions = {
  keys: {
    visibility,
    params: { $$strict: true, key: text, limit: pageSize },
    handler(this: Service, ctx: Context<KeysParams>) {
      return storageOf(this).operations.keys(asParams(ctx.params));
    }
  },
  skip: {
    visibility,
    params: { $$strict: true, key: textOf(300, false), group: text, note: ACT.note, by: text, dryRun: flag },
    handler(this: Service, ctx: Context<SkipParams>) {
      const { by, ...params } = asParams(ctx.params);
      return storageOf(this).operations.skip(params, who(ctx, by));
    }
  }
};
