import { ReliableError } from "./errors";
import { checkEvent, checkHeaders, checkId, serialize } from "./message/envelope";
import { STATUS } from "./message/lifecycle";
import { bucketOf, type Backoff, type Message, type Origin } from "./message/message";
import { check, type NodeOptions, type ServiceOptions } from "./options";
import type { EmitPlan } from "./strategies/strategy";

/** Options of one `reliableEmit`. All optional. */
export interface EmitOptions {
	/** The context the event comes from: requestID, tracing, meta, level and caller go on. */
	ctx?: unknown;
	/** The same under Moleculer's own name. */
	parentCtx?: unknown;
	/** Merged over the context's meta. */
	meta?: Record<string, unknown>;
	/** `ctx.headers` of the handlers (Moleculer 0.15). */
	headers?: Record<string, unknown>;
	/** Only these groups get it and owe a receipt. @default every subscribed group */
	groups?: string | string[];
	/** @default the service's */
	strategy?: "outbox";
	/** Makes a repeated emit idempotent: the same id with the same event and payload is stored once. @default a UUIDv7 */
	id?: string;
	/** MongoDB ClientSession of the store's client: the message joins its transaction and is published after the commit. */
	session?: unknown;
	/** @default the service's */
	maxAttempts?: number;
	/** @default the service's */
	backoff?: Partial<Backoff>;
	/** Limit in ms for storing, and for what `waitFor` waits for. @default emitTimeoutMs */
	timeoutMs?: number;
	/** What to wait for before it resolves; with a session only "stored". @default "stored" */
	waitFor?: "stored" | "confirmed" | "consumed";
}

/** The emitting service. */
export interface EmitSource {
	service: string;
	options: ServiceOptions;
	origin: Origin;
	/** Meta of the context. */
	meta: Record<string, unknown>;
}

const any = { type: "any" };
const object = { type: "object" };
const EMIT_RULES = {
	ctx: any,
	parentCtx: any,
	meta: object,
	headers: object,
	groups: { type: "multi", rules: [{ type: "string", empty: false }, { type: "array", items: { type: "string", empty: false }, min: 1 }] },
	strategy: { type: "enum", values: ["outbox"] },
	id: any,
	session: any,
	maxAttempts: { type: "number", integer: true, min: 1, max: 100 },
	backoff: { type: "object", strict: true, properties: { initialMs: { type: "number", integer: true, min: 1, optional: true }, maxMs: { type: "number", integer: true, min: 1, optional: true }, jitter: { type: "enum", values: ["none", "half", "full"], optional: true } } },
	timeoutMs: { type: "number", integer: true, min: 1, max: 24 * 3_600_000 },
	waitFor: { type: "enum", values: ["stored", "confirmed", "consumed"] }
};

/** Everything that can be wrong with an emit is found here, before anything is stored. */
export function newMessage(source: EmitSource, event: string, payload: unknown, options: EmitOptions, world: { id(): string; waitingFor(groups?: string[]): string[] }): Message {
	checkEvent(event);
	checkEmitOptions(event, options);
	const service = source.options;
	const body = serialize(event, payload, service.maxPayloadBytes);
	const meta = { ...source.meta, ...options.meta };
	const headers = options.headers ?? {};
	const groups = options.groups === undefined ? undefined : [options.groups].flat();
	checkHeaders(event, meta, headers, source.origin, groups ?? []);
	const _id = options.id ?? world.id();
	return {
		_id,
		v: 1,
		event,
		body,
		meta,
		headers,
		origin: source.origin,
		strategy: options.strategy ?? service.strategy,
		producer: source.service,
		...(groups ? { groups } : {}),
		status: STATUS.pending,
		open: true,
		bucket: bucketOf(_id),
		waiting: world.waitingFor(groups),
		failed: [],
		receipts: {},
		attempts: {},
		spent: {},
		base: {},
		next: {},
		maxAttempts: options.maxAttempts ?? service.maxAttempts,
		backoff: { ...service.backoff, ...options.backoff },
		receiptTimeoutMs: service.receiptTimeoutMs,
		failures: [],
		createdAt: new Date(),
		notes: []
	};
}

function checkEmitOptions(event: string, options: EmitOptions): void {
	if (typeof options !== "object" || options === null || Array.isArray(options)) {
		throw new ReliableError("RELIABLE_BAD_OPTION", `The options of reliableEmit('${event}') must be an object.`, { event });
	}
	const { ctx, parentCtx, session, meta, headers, id, ...rest } = options;
	check(`reliableEmit('${event}')`, EMIT_RULES, rest);
	for (const [name, value] of Object.entries({ meta, headers, ctx, parentCtx, session })) {
		if (value !== undefined && (typeof value !== "object" || value === null || Array.isArray(value))) throw new ReliableError("RELIABLE_BAD_OPTION", `The emit option '${name}' of '${event}' must be an object.`, { option: name, event });
	}
	if (id !== undefined) checkId(id);
	if (session && rest.waitFor !== undefined && rest.waitFor !== "stored") {
		// Nothing is published before the commit, which would wait for this emit.
		throw new ReliableError("RELIABLE_BAD_OPTION", `The emit option 'waitFor' of '${event}' cannot be '${rest.waitFor}' with a session: the message goes out after the commit.`, { option: "waitFor", event });
	}
}

export function emitPlan(options: EmitOptions, node: NodeOptions): EmitPlan {
	return { session: options.session, waitFor: options.waitFor ?? "stored", timeoutMs: options.timeoutMs ?? node.emitTimeoutMs };
}
