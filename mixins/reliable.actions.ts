import type { Context, Service } from "moleculer";
import { ReliableRetryableError } from "../src/errors";
import type { ActParams } from "../src/compensation";
import { health, stats, subscriptions } from "../src/health";
import type { Runtime } from "../src/runtime";
import { nodeOf, type Broker } from "./node";

/** The REPL makes numbers of what looks like one, so text may come as a number; `asText` takes it back. */
const textOrNumber = (max: number, empty: boolean) => [{ type: "string", empty, max }, { type: "number" }];
const textOf = (max: number, empty: boolean) => ({ type: "multi", rules: textOrNumber(max, empty) });
const text = { ...textOf(300, false), optional: true };
const ms = { type: "number", integer: true, min: 0, convert: true, optional: true };
const flag = { type: "boolean", convert: true, optional: true };
const page = { type: "number", integer: true, min: 1, convert: true, optional: true };
const pageSize = { type: "number", integer: true, min: 1, max: 500, convert: true, optional: true };
/** Only strings and numbers pass, so nothing of a query language reaches the store. */
const FILTER = {
	status: { type: "multi", rules: [{ type: "string", empty: false }, { type: "array", items: "string", min: 1 }], optional: true },
	event: text,
	group: text,
	producer: text,
	olderThanMs: ms,
	youngerThanMs: ms
};
const ACT = {
	$$strict: true,
	id: text,
	// One alone, too; the validator that comes with the oldest Moleculer cannot make a list of it.
	ids: { type: "multi", rules: [{ type: "array", items: textOf(300, false), min: 1, max: 500 }, ...textOrNumber(300, false)], optional: true },
	...FILTER,
	note: { ...textOf(2000, true), optional: true },
	by: text,
	dryRun: flag,
	limit: { type: "number", integer: true, min: 1, max: 10_000, convert: true, optional: true }
};

/** Not reachable through an API gateway unless somebody publishes them on purpose. */
const visibility = "public";

type Self = Service;

const TEXTS = ["id", "ids", "status", "event", "group", "producer", "note", "by"];

function asText<T>(params: T): T {
	const text = (value: unknown): unknown => (typeof value === "number" ? String(value) : Array.isArray(value) ? value.map(text) : value);
	return Object.fromEntries(Object.entries(params as object).map(([name, value]) => [name, TEXTS.includes(name) ? text(value) : value])) as T;
}

function runtimeOf(service: Self): Runtime {
	return nodeOf(service.broker as Broker).runtime;
}

const compensation = (service: Self) => runtimeOf(service).needStorage().compensation;

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
		params: ACT,
		handler(this: Self, ctx: Context<Omit<ActParams, "ids"> & { ids?: string | string[] }>) {
			const { ids, ...params } = asText(ctx.params);
			return compensation(this)[name]({ ...params, ...(ids !== undefined && { ids: [ids].flat() }) }, who(ctx));
		}
	};
}

/** The operators' actions: params and one call each. Errors: RELIABLE_NOT_FOUND, RELIABLE_ILLEGAL_TRANSITION, RELIABLE_BAD_OPTION, RELIABLE_GROUP_ACTIVE. */
export const reliableActions = {
	stats: { visibility, params: { $$strict: true }, handler(this: Self) { return stats(runtimeOf(this)); } },
	health: { visibility, params: { $$strict: true }, handler(this: Self) { return health(runtimeOf(this)); } },
	subscriptions: { visibility, params: { $$strict: true }, handler(this: Self) { return subscriptions(runtimeOf(this)); } },
	list: { visibility, params: { $$strict: true, ...FILTER, page, pageSize }, handler(this: Self, ctx: Context<object>) { return compensation(this).list(asText(ctx.params)); } },
	get: { visibility, params: { $$strict: true, id: textOf(300, false) }, handler(this: Self, ctx: Context<{ id: string }>) { return compensation(this).get(asText(ctx.params).id); } },
	statuses: { visibility, params: { $$strict: true, ids: { type: "array", items: { type: "string", empty: false, max: 300 }, min: 1, max: 10_000 } }, handler(this: Self, ctx: Context<{ ids: string[] }>) { return compensation(this).statuses(ctx.params.ids); } },
	parked: { visibility, params: { $$strict: true, page, pageSize }, handler(this: Self, ctx: Context<{ page?: number; pageSize?: number }>) { return compensation(this).parked(ctx.params.page, ctx.params.pageSize); } },
	audits: { visibility, params: { $$strict: true }, handler(this: Self) { return compensation(this).audits(); } },
	retry: act("retry"),
	resolve: act("resolve"),
	discard: act("discard"),
	sweep: { visibility, params: { $$strict: true }, handler(this: Self) { return runtimeOf(this).needStorage().sweeper.once(); } },
	forget: {
		visibility,
		params: { $$strict: true, group: textOf(300, false), note: ACT.note, by: text, dryRun: flag, force: flag },
		handler(this: Self, ctx: Context<{ group: string; note?: string; by?: string; dryRun?: boolean; force?: boolean }>) {
			const { courier } = runtimeOf(this);
			if (!courier) throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", "The node is not connected.");
			return compensation(this).forget(asText(ctx.params), who(ctx), async queue => (await courier.depth(queue))?.consumers ?? 0);
		}
	}
};
