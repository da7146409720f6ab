import type { Context, Service } from "moleculer";
import type { PauseParams } from "../src/operator/pause";
import { storageOf, visibility, who } from "./act.actions";
import { ACT, asParams, text, textOf } from "./action-params";

function act(name: "pause" | "resume") {
  return {
    visibility,
    params: {
      $$strict: true,
      group: textOf(300, false),
      pattern: { ...textOf(300, false), optional: true },
      note: ACT.note,
      by: text
    },
    handler(this: Service, ctx: Context<PauseParams>) {
      const { by, ...params } = asParams(ctx.params);
      return storageOf(this).operations[name](params, who(ctx, by));
    }
  };
}

/** A group, or one of its patterns, takes nothing until it is resumed. Errors: see `pause` and `resume`. */
export const pauseActions = {
  pause: act("pause"),
  resume: act("resume"),
  paused: {
    visibility,
    params: { $$strict: true, event: text },
    handler(this: Service, ctx: Context<{ event?: string }>) {
      return storageOf(this).operations.paused(asParams(ctx.params).event);
    }
  }
};
