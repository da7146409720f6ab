import type { Context, Service } from "moleculer";
import type { BulkChangeParams, BulkParams } from "../src/operator/bulk/bulk";
import { storageOf, visibility, who } from "./act.actions";
import { ACT, asParams, FILTER, flag, page, pageSize, text, textOf } from "./action-params";
import { instant, numberOf } from "./param-rules";

export const perSecond = numberOf(1, 10_000, "^([1-9]\\d{0,3}|10000)$");

const oneOf = (...values: string[]) => ({ type: "enum", values });

/** Acts on all that matches, in the background: begun here, worked at by the node that sweeps. */
export const bulkActions = {
  bulk: {
    visibility,
    params: {
      $$strict: true,
      act: oneOf("retry", "resolve", "discard"),
      ...FILTER,
      note: ACT.note,
      by: text,
      perSecond,
      countedAt: instant,
      dryRun: flag
    },
    handler(this: Service, ctx: Context<BulkParams & { by?: string }>) {
      const { by, ...params } = asParams(ctx.params);
      return storageOf(this).bulks.begin(params, who(ctx, by));
    }
  },
  bulks: {
    visibility,
    params: { $$strict: true, id: text, page, pageSize },
    handler(this: Service, ctx: Context<{ id?: string; page?: number; pageSize?: number }>) {
      const { id, page, pageSize } = asParams(ctx.params);
      return id === undefined ? storageOf(this).bulks.list(page, pageSize) : storageOf(this).bulks.get(id);
    }
  },
  bulkChange: {
    visibility,
    params: {
      $$strict: true,
      id: textOf(300, false),
      change: oneOf("pause", "resume", "stop", "rate"),
      perSecond,
      note: ACT.note,
      by: text
    },
    handler(this: Service, ctx: Context<BulkChangeParams & { by?: string }>) {
      const { by, ...params } = asParams(ctx.params);
      return storageOf(this).bulks.change(params, who(ctx, by));
    }
  },
  /** For other nodes: there is a bulk act to be worked at, or to be watched until its claim ends. */
  bulkLook: {
    visibility,
    params: { $$strict: true },
    handler(this: Service) {
      return storageOf(this).bulkWorker.asked();
    }
  }
};
