import type { Context, Service, ServiceSchema } from "moleculer";
import type { Consumer } from "../src/consumer/consumer";
import type { EmitOptions } from "../src/emit";
import { ReliableError } from "../src/errors";
import { bindingKey, consumerGroup, eventQueue } from "../src/message/pattern";
import { consumerOptions, given, serviceOptions, type ReliableOptions, type ServiceOptions } from "../src/options";
import type { Runtime } from "../src/runtime";
import type { EmitResult } from "../src/strategies/strategy";
import { eventHandler, originOf } from "./event-context";
import { nodeOf, type Broker } from "./node";
import { ensureReliableService } from "./reliable.service";

/** Kept on the service instance: never in the schema, which is cloned and published. */
interface State {
	runtime: Runtime;
	options: ServiceOptions;
	consumers: Consumer[];
	running: boolean;
}

type Mixed = Service & { $reliable?: State };

type Hook = (this: Mixed) => unknown;

/** The part of a service schema that both Moleculer lines type in their own way. */
interface Schema {
	name: string;
	settings?: { reliable?: Record<string, unknown> };
	events?: Record<string, unknown>;
	started?: unknown;
	stopped?: unknown;
}

/**
 * Mixin that adds `this.reliableEmit()` to a service and makes its `events` with `reliable: true | {…}` consumers that answer for what they
 * handle. Options: see OPTIONS; also from `settings.reliable` and the environment (RELIABLE_…), in this order of precedence.
 *
 * Throws RELIABLE_BAD_OPTION / RELIABLE_BAD_CONSUMER when the service is created; a start rejects with RELIABLE_ACCESS_REFUSED on refused
 * credentials, not while a server is merely down.
 */
export function ReliableEmit(options: ReliableOptions = {}): Partial<ServiceSchema> {
	// Bad options are the caller's mistake where they are written, not where the service starts.
	given({ ...options }, {}, {});
	return {
		settings: { $secureSettings: ["reliable"] },

		methods: {
			/** See EmitOptions. Rejects with typed RELIABLE_ errors; resolves when the strategy's promise holds. */
			reliableEmit(this: Mixed, event: string, payload: unknown, emitOptions: EmitOptions = {}): Promise<EmitResult> {
				return emit(this, event, payload, emitOptions);
			}
		},

		merged(this: Mixed, schema: Schema): void {
			if (this.$reliable) return;
			const values = given({ ...options }, schema.settings?.reliable);
			const { runtime } = nodeOf(this.broker as Broker);
			runtime.configure(values, schema.name);
			this.$reliable = { runtime, options: serviceOptions(values), consumers: [], running: false };
			reliableEvents(schema, this.$reliable.options);
			// Outermost: after the user's own `started`, before the user's own `stopped` (research/moleculer.md §2.3).
			schema.started = [...hooks(schema.started), startConsumers];
			schema.stopped = [...hooks(schema.stopped), stopConsumers];
		},

		created(this: Mixed): void {
			ensureReliableService(this.broker as Broker);
		},

		async started(this: Mixed): Promise<void> {
			const state = this.$reliable as State;
			await state.runtime.acquire();
			state.running = true;
		},

		async stopped(this: Mixed): Promise<void> {
			const state = this.$reliable as State;
			if (!state.running) return;
			state.running = false;
			await state.runtime.release();
		}
	} as unknown as Partial<ServiceSchema>;
}

async function emit(service: Mixed, event: string, payload: unknown, options: EmitOptions): Promise<EmitResult> {
	const { runtime, options: serviceDefaults } = service.$reliable as State;
	const ctx = (options?.ctx ?? options?.parentCtx) as Context | undefined;
	const source = { service: service.fullName, options: serviceDefaults, origin: originOf(ctx, service.fullName), meta: (ctx?.meta as Record<string, unknown>) ?? {} };
	return runtime.emit(source, event, payload, options);
}

function hooks(value: unknown): Hook[] {
	return value === undefined ? [] : ([value].flat() as Hook[]);
}

interface ReliableEvent {
	name?: string;
	group?: string;
	reliable?: unknown;
	debounce?: unknown;
	throttle?: unknown;
}

/** The reliable events of a schema, checked. Throws RELIABLE_BAD_CONSUMER. */
function reliableEvents(schema: Schema, defaults: ServiceOptions): { pattern: string; base: string; options: ReturnType<typeof consumerOptions> }[] {
	return Object.entries((schema.events ?? {}) as Record<string, ReliableEvent>).flatMap(([key, event]) => {
		if (typeof event !== "object" || event === null || event.reliable === undefined || event.reliable === false) return [];
		const pattern = event.name ?? key;
		const where = `events['${pattern}'] of service '${schema.name}'`;
		const bad = (why: string) => new ReliableError("RELIABLE_BAD_CONSUMER", `${where} ${why}.`, { event: pattern, service: schema.name });
		const consumer = consumerOptions(where, event.reliable, defaults);
		const base = event.group ?? schema.name;
		if (pattern.startsWith("$")) throw bad("cannot be reliable: '$' events stay on their node in Moleculer");
		if (event.debounce || event.throttle) throw bad("cannot be reliable together with debounce or throttle: its handler might never run");
		if (/[:/,*#]/.test(base)) throw bad(`cannot be reliable: the group '${base}' contains one of : / , * #`);
		if (Buffer.byteLength(pattern) > 120 || Buffer.byteLength(base) > 60) throw bad("cannot be reliable: the event pattern may have 120 bytes and the group 60, since both are part of the queue's name");
		return [{ pattern, base, options: consumer }];
	});
}

async function startConsumers(this: Mixed): Promise<void> {
	const { runtime, options, consumers } = this.$reliable as State;
	for (const { pattern, base, options: consumer } of reliableEvents(this.schema as unknown as Schema, options)) {
		const group = consumerGroup(base, pattern);
		const queue = eventQueue(this.broker.namespace ?? "", base, pattern);
		const handle = eventHandler(this, pattern, base, group);
		consumers.push(await runtime.consume({ pattern, group, queue, bindings: [bindingKey(pattern)], service: this.fullName, options: consumer, handle }));
	}
}

async function stopConsumers(this: Mixed): Promise<void> {
	const { runtime, consumers } = this.$reliable as State;
	await Promise.all(consumers.splice(0).map(consumer => runtime.stopConsumer(consumer)));
}
