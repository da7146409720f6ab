import type { Context, Service } from "moleculer";
import type { ReplayParams } from "../src/operator/bulk/replay";
import { storageOf, visibility, who } from "./act.actions";
import { ACT, asParams, flag, text, textOf } from "./action-params";
import { perSecond } from "./bulk.actions";
import { instant } from "./param-rules";

/** Kept messages to one group, in the background: a bulk act, with `bulks` and `bulkChange` as any other. */
export const replayActions = {
  replay: {
    visibility,
    params: {
      $$strict: true,
      group: textOf(300, false),
      event: text,
      fromAt: { ...instant, optional: false },
      toAt: instant,
      perSecond,
      again: flag,
      note: ACT.note,
      by: text,
      countedAt: instant,
      dryRun: flag
    },
    handler(this: Service, ctx: Context<ReplayParams & { by?: string }>) {
      const { by, ...params } = asParams(ctx.params);
      return storageOf(this).replays.begin(params, who(ctx, by));
    }
  }
};
