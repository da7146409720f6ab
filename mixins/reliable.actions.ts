import type { Context, Service } from "moleculer";
import { ReliableRetryableError } from "../src/errors";
import { health, stats, subscriptions } from "../src/operator/health";
import type { DiscardParams } from "../src/operator/operations";
import type { Runtime } from "../src/runtime/runtime";
import type { Broker } from "./broker";
import { nodeOf } from "./node";

/** The REPL makes numbers of what looks like one, so text may come as a number; `asParams` takes it back. */
const textOrNumber = (max: number, empty: boolean) => [{ type: "string", empty, max }, { type: "number" }];
const textOf = (max: number, empty: boolean) => ({ type: "multi", rules: textOrNumber(max, empty) });
/** One alone, too; the validator that comes with the oldest Moleculer cannot make a list of it. */
const listOf = (max: number) => ({
  type: "multi",
  rules: [{ type: "array", items: textOf(max, false), min: 1, max: 500 }, ...textOrNumber(max, false)],
  optional: true
});
const text = { ...textOf(300, false), optional: true };
/**
 * Numbers may come as text, too; not by `convert`, which throws on an object with a `toString` of its own. `asParams`
 * makes numbers of them.
 */
const numberOf = (min: number, max: number, pattern: string) => ({
  type: "multi",
  rules: [
    { type: "number", integer: true, min, max },
    { type: "string", pattern }
  ],
  optional: true
});
const ms = numberOf(0, 1e13, "^\\d{1,13}$");
const flag = { type: "boolean", convert: true, optional: true };
const page = numberOf(1, 1e9, "^[1-9]\\d{0,8}$");
const pageSize = numberOf(1, 500, "^([1-9]\\d?|[1-4]\\d\\d|500)$");
/** Only strings and numbers pass, so nothing of a query language reaches the store. */
const FILTER = {
  status: {
    type: "multi",
    rules: [
      { type: "string", empty: false, max: 300 },
      { type: "array", items: { type: "string", max: 300 }, min: 1, max: 20 }
    ],
    optional: true
  },
  event: text,
  group: text,
  producer: text,
  olderThanMs: ms,
  youngerThanMs: ms
};
/** Parked ones bear the names of a queue and of a stranger's message. */
const parkedId = textOf(1000, false);
const ACT = {
  $$strict: true,
  id: text,
  ids: listOf(300),
  ...FILTER,
  note: { ...textOf(2000, true), optional: true },
  by: text,
  dryRun: flag,
  limit: numberOf(1, 10_000, "^([1-9]\\d{0,3}|10000)$")
};

/** Not reachable through an API gateway unless somebody publishes them on purpose. */
const visibility = "public";

type Self = Service;

const TEXTS = ["id", "ids", "parked", "status", "event", "group", "producer", "note", "by"];

const NUMBERS = ["olderThanMs", "youngerThanMs", "page", "pageSize", "limit"];

function asParams<T>(params: T): T {
  const text = (value: unknown): unknown =>
    typeof value === "number" ? String(value) : Array.isArray(value) ? value.map(text) : value;
  const param = ([name, value]: [string, unknown]) => [
    name,
    TEXTS.includes(name) ? text(value) : NUMBERS.includes(name) && value !== undefined ? Number(value) : value
  ];
  return Object.fromEntries(Object.entries(params as object).map(param)) as T;
}

function runtimeOf(service: Self): Runtime {
  return nodeOf(service.broker as Broker).runtime;
}

const compensation = (service: Self) => runtimeOf(service).needStorage().operations;

/** Who did it, where the call does not say: the REPL, the user the gateway put into meta, or the calling service. */
function who(ctx: Context): string {
  const meta = ctx.meta as { $repl?: boolean; user?: { id?: unknown; username?: unknown } };
  const user = meta.user?.username ?? meta.user?.id;
  if (typeof user === "string" || typeof user === "number") return String(user);
  if (meta.$repl) return `REPL on ${ctx.nodeID}`;
  return ctx.caller ?? `node ${ctx.nodeID}`;
}

function act(name: "retry" | "resolve" | "discard") {
  return {
    visibility,
    params: name === "discard" ? { ...ACT, parked: listOf(1000) } : ACT,
    handler(
      this: Self,
      ctx: Context<Omit<DiscardParams, "ids" | "parked"> & { ids?: string | string[]; parked?: string | string[] }>
    ) {
      const { ids, parked, ...params } = asParams(ctx.params);
      return compensation(this)[name](
        {
          ...params,
          ...(ids !== undefined && { ids: [ids].flat() }),
          ...(parked !== undefined && { parked: [parked].flat() })
        },
        who(ctx)
      );
    }
  };
}

/**
 * The operators' actions: params and one call each. Errors: RELIABLE_NOT_FOUND, RELIABLE_ILLEGAL_TRANSITION,
 * RELIABLE_BAD_OPTION, RELIABLE_GROUP_ACTIVE.
 */
export const reliableActions = {
  stats: {
    visibility,
    params: { $$strict: true },
    handler(this: Self) {
      return stats(runtimeOf(this));
    }
  },
  health: {
    visibility,
    params: { $$strict: true },
    handler(this: Self) {
      return health(runtimeOf(this));
    }
  },
  subscriptions: {
    visibility,
    params: { $$strict: true },
    handler(this: Self) {
      return subscriptions(runtimeOf(this));
    }
  },
  list: {
    visibility,
    params: { $$strict: true, ...FILTER, page, pageSize },
    handler(this: Self, ctx: Context<object>) {
      return compensation(this).list(asParams(ctx.params));
    }
  },
  get: {
    visibility,
    params: { $$strict: true, id: textOf(300, false) },
    handler(this: Self, ctx: Context<{ id: string }>) {
      return compensation(this).get(asParams(ctx.params).id);
    }
  },
  statuses: {
    visibility,
    params: {
      $$strict: true,
      ids: { type: "array", items: { type: "string", empty: false, max: 300 }, min: 1, max: 10_000 }
    },
    handler(this: Self, ctx: Context<{ ids: string[] }>) {
      return compensation(this).statuses(ctx.params.ids);
    }
  },
  parked: {
    visibility,
    params: { $$strict: true, id: { ...parkedId, optional: true }, page, pageSize },
    handler(this: Self, ctx: Context<{ id?: string; page?: number; pageSize?: number }>) {
      const { id, page, pageSize } = asParams(ctx.params);
      return id === undefined ? compensation(this).parked(page, pageSize) : compensation(this).oneParked(id);
    }
  },
  audits: {
    visibility,
    params: { $$strict: true },
    handler(this: Self) {
      return compensation(this).audits();
    }
  },
  retry: act("retry"),
  resolve: act("resolve"),
  discard: act("discard"),
  sweep: {
    visibility,
    params: { $$strict: true },
    handler(this: Self) {
      return runtimeOf(this).needStorage().sweeper.once();
    }
  },
  forget: {
    visibility,
    params: { $$strict: true, group: textOf(300, false), note: ACT.note, by: text, dryRun: flag, force: flag },
    handler(
      this: Self,
      ctx: Context<{ group: string; note?: string; by?: string; dryRun?: boolean; force?: boolean }>
    ) {
      const { courier } = runtimeOf(this);
      if (!courier) throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", "The node is not connected.");
      return compensation(this).forget(
        asParams(ctx.params),
        who(ctx),
        async queue => (await courier.depth(queue))?.consumers ?? 0
      );
    }
  }
};
