import type { Context, Service } from "moleculer";
import type { NodeHealth } from "../src/operator/health";
import { actActions, storageOf, visibility } from "./act.actions";
import { asParams, FILTER, page, pageSize, parkedId, text, textOf } from "./action-params";
import { bulkActions } from "./bulk.actions";
import { causesActions } from "./causes.actions";
import { eraseActions } from "./erase.actions";
import { historyActions } from "./history.actions";
import { keysActions } from "./keys.actions";
import { pauseActions } from "./pause.actions";
import { replayActions } from "./replay.actions";

const healthOf = (service: Service): NodeHealth => storageOf(service).health;

/**
 * The operators' actions: params and one call each. Errors: RELIABLE_NOT_FOUND, RELIABLE_ILLEGAL_TRANSITION,
 * RELIABLE_BAD_OPTION, RELIABLE_GROUP_ACTIVE.
 */
export const reliableActions = {
  stats: {
    visibility,
    params: { $$strict: true },
    handler(this: Service) {
      return healthOf(this).stats();
    }
  },
  health: {
    visibility,
    params: { $$strict: true },
    handler(this: Service) {
      return healthOf(this).health();
    }
  },
  subscriptions: {
    visibility,
    params: { $$strict: true },
    handler(this: Service) {
      return healthOf(this).subscriptions();
    }
  },
  list: {
    visibility,
    params: { $$strict: true, ...FILTER, cursor: { ...textOf(1000, false), optional: true }, pageSize },
    handler(this: Service, ctx: Context<object>) {
      return storageOf(this).operations.list(asParams(ctx.params));
    }
  },
  get: {
    visibility,
    params: { $$strict: true, id: textOf(300, false) },
    handler(this: Service, ctx: Context<{ id: string }>) {
      return storageOf(this).operations.get(asParams(ctx.params).id);
    }
  },
  statuses: {
    visibility,
    params: {
      $$strict: true,
      ids: { type: "array", items: { type: "string", empty: false, max: 300 }, min: 1, max: 10_000 }
    },
    handler(this: Service, ctx: Context<{ ids: string[] }>) {
      return storageOf(this).operations.statuses(ctx.params.ids);
    }
  },
  parked: {
    visibility,
    params: { $$strict: true, id: { ...parkedId, optional: true }, page, pageSize },
    handler(this: Service, ctx: Context<{ id?: string; page?: number; pageSize?: number }>) {
      const { id, page, pageSize } = asParams(ctx.params);
      return id === undefined
        ? storageOf(this).operations.parked(page, pageSize)
        : storageOf(this).operations.oneParked(id);
    }
  },
  audits: {
    visibility,
    params: { $$strict: true, id: text, page, pageSize },
    handler(this: Service, ctx: Context<{ id?: string; page?: number; pageSize?: number }>) {
      const { id, page, pageSize } = asParams(ctx.params);
      return id === undefined
        ? storageOf(this).operations.audits(page, pageSize)
        : storageOf(this).operations.oneAudit(id);
    }
  },
  ...causesActions,
  ...historyActions,
  ...actActions,
  ...bulkActions,
  ...replayActions,
  ...keysActions,
  ...pauseActions,
  ...eraseActions
};
