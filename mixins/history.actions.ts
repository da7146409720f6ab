import type { Context, Service } from "moleculer";
import type { HistoryParams } from "../src/operator/history";
import { storageOf, visibility } from "./act.actions";
import { asParams, stepMs, text } from "./action-params";
import { instant } from "./param-rules";

/** What happened, by time, and how everything is now. */
export const historyActions = {
  overview: {
    visibility,
    params: { $$strict: true },
    handler(this: Service) {
      return storageOf(this).overview.read();
    }
  },
  history: {
    visibility,
    params: { $$strict: true, fromAt: instant, toAt: instant, stepMs, event: text, group: text },
    handler(this: Service, ctx: Context<HistoryParams>) {
      return storageOf(this).operations.history(asParams(ctx.params));
    }
  }
};
