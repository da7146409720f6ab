import { uuidv7 } from "uuidv7";
import { atMost } from "./at-most";
import { backendsOf, describeBackends, newCourier, newStore, type Backends } from "./backends";
import { Compensation, type Done } from "./compensation";
import { Consumer, mustAgree, type ConsumerSpec } from "./consumer/consumer";
import type { Courier } from "./couriers/courier";
import { emitPlan, newMessage, type EmitOptions, type EmitSource } from "./emit";
import { bare, ReliableError, reasonOf } from "./errors";
import type { Logger } from "./logger";
import { ANY_GROUP, type Message } from "./message/message";
import { prefixOf, systemQueues } from "./message/pattern";
import { Metrics } from "./metrics";
import { mergeNode, nodeOptions, type NodeOptions, type ServiceOptions } from "./options";
import { Publisher } from "./publisher";
import { Registry } from "./registry";
import type { ResendAnswer, ResendRequest } from "./message/resend";
import { Sampler } from "./sampler";
import { Producer, Rounds, type Call } from "./rounds";
import type { DeadMessage, Store } from "./stores/store";
import { Callback } from "./strategies/callback";
import { Inserter } from "./strategies/inserter";
import { Outbox } from "./strategies/outbox";
import type { EmitPlan, EmitResult, Strategy } from "./strategies/strategy";
import { Checks } from "./sweeper/checks";
import { Leases } from "./sweeper/lease";
import { connectRedis, type RedisConnection } from "./sweeper/redis";
import { Sweeper } from "./sweeper/sweeper";
import { Tracker } from "./tracker";
import { Waiters, type Seen } from "./waiters";

/** Who we are on the Moleculer side. */
export interface Identity {
	nodeID: string;
	namespace: string;
	logger: Logger;
	/** Calls a Moleculer action. */
	call: Call;
}

export interface LifecycleListener {
	consumed(ids: string[]): void;
	dead(messages: DeadMessage[]): void;
	/** A human has retried, resolved or discarded them. */
	acted(act: Done, ids: string[], by: string): void;
	/** A failure in the background that nobody is waiting for, told once until it has passed. */
	error(error: Error, module: string): void;
}

/** What exists once the store part of a node is up. */
interface Storage {
	store: Store;
	registry: Registry;
	inserter: Inserter;
	outbox: Outbox;
	tracker: Tracker;
	sweeper: Sweeper;
	compensation: Compensation;
}

type Phase = "created" | "started" | "stopped";

/**
 * The composition root, one per Moleculer broker: one pair of RabbitMQ connections, one store client, one Redis client, whatever the
 * number of services. Built at the first service's start, closed after the last one's stop:
 *
 *   start   store + courier → registry → (service `reliable`: tracker, sweeper) → consumers, each after its service's `started`
 *   stop    consumers, each before its service's `stopped` → sweeper → emits' publishes → tracker → courier → store → Redis
 */
export class Runtime {
	readonly metrics = new Metrics();
	readonly startedAt = Date.now();
	readonly #values: Record<string, unknown> = {};
	readonly #consumers = new Set<Consumer>();
	readonly #listeners = new Set<LifecycleListener>();
	#phase: Phase = "created";
	#users = 0;
	#starting: Promise<void> | undefined;
	#stopping: Promise<void> | undefined;
	#tracking: Promise<void> | undefined;
	#options: NodeOptions | undefined;
	#courier: Courier | undefined;
	#store: Store | undefined;
	#storage: Storage | undefined;
	#redis: RedisConnection | undefined;
	#publisher: Publisher | undefined;
	#callback: Callback | undefined;
	#sampler: Sampler | undefined;
	readonly #waiters: Waiters;

	constructor(readonly identity: Identity) {
		this.#waiters = new Waiters(async ids => {
			if (this.#storage) return this.#storage.compensation.statuses(ids);
			return (await identity.call("reliable.statuses", { ids }, { timeout: this.options.askTimeoutMs })) as Seen[];
		});
	}

	/** Node options of a further service. Throws RELIABLE_BAD_OPTION when it contradicts another's. */
	configure(values: Record<string, unknown>, service: string): void {
		mergeNode(this.#values, values, service);
	}

	get options(): NodeOptions {
		return this.#options ?? nodeOptions(this.#values);
	}

	get backends(): Backends {
		return backendsOf(this.options);
	}

	get running(): boolean {
		return this.#phase === "started";
	}

	get courier(): Courier | undefined {
		return this.#courier;
	}

	get redis(): RedisConnection | undefined {
		return this.#redis;
	}

	get storage(): Storage | undefined {
		return this.#storage;
	}

	/** Throws RELIABLE_NO_STORE. */
	needStorage(): Storage {
		if (this.#storage) return this.#storage;
		throw this.#phase === "started"
			? new ReliableError("RELIABLE_NO_STORE", `Node '${this.identity.nodeID}' has no store: give the option 'mongo' (or 'path').`, { option: "mongo", nodeID: this.identity.nodeID })
			: this.#notRunning();
	}

	listen(listener: LifecycleListener): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	get consumers(): ReadonlySet<Consumer> {
		return this.#consumers;
	}

	/** Counts a service in; the node's parts start with the first. Rejects on refused credentials and bad addresses, not on servers that are down. */
	async acquire(): Promise<void> {
		this.#users++;
		await this.#stopping;
		this.#starting ??= this.#start();
		try {
			await this.#starting;
		} catch (error) {
			this.#users--;
			throw error;
		}
	}

	/** Counts a service out; the last one closes everything. */
	async release(): Promise<void> {
		if (--this.#users > 0) return;
		this.#stopping = this.#stop().finally(() => (this.#stopping = undefined));
		await this.#stopping;
	}

	async #start(): Promise<void> {
		try {
			await this.#open();
		} catch (error) {
			// Nothing of it may keep the process alive; a further start begins anew.
			this.#starting = undefined;
			await this.#close(0);
			throw error;
		}
	}

	async #open(): Promise<void> {
		this.#options = nodeOptions(this.#values);
		const { logger, namespace, nodeID } = this.identity;
		this.#courier = newCourier(this.#options, this.identity);
		this.#courier.on("error", error => this.reportError(error, "courier"));
		const store = (this.#store = newStore(this.#options, this.identity));
		store?.onDown(error => this.reportError(error, "store"));
		const starts = await Promise.allSettled([this.#courier.start(), store?.start()]);
		for (const start of starts) if (start.status === "rejected") throw start.reason;
		const queues = systemQueues(namespace);
		await Promise.all([queues.checks, queues.callbackReceipts, ...(store ? [queues.receipts] : [])].map(name => this.#courier?.declare({ name })));
		const registry = store && new Registry(store, this.#options.refreshMs, logger);
		this.#publisher = new Publisher(this.#courier, registry, queues, nodeID, this.metrics);
		this.#callback = new Callback({ publisher: this.#publisher, waiters: this.#waiters, metrics: this.metrics });
		if (store && registry) this.#storage = await this.#assemble(store, registry, this.#courier, this.#publisher);
		this.#sampler = this.#sample(this.#courier);
		this.#phase = "started";
		logger.info(`Reliable: node ${nodeID} runs on ${describeBackends(this.#options, store)}.`);
	}

	#sample(courier: Courier): Sampler {
		const { metrics, identity, storage } = this;
		const handling = () => [...this.#consumers].reduce((sum, { inFlight }) => sum + inFlight, 0);
		const sampler = new Sampler({ metrics, courier, store: storage?.store, logger: identity.logger, handling, sweeping: () => storage?.sweeper.sweeping ?? false, leaseChanges: () => storage?.sweeper.leases?.changes ?? 0 });
		sampler.start();
		return sampler;
	}

	async #assemble(store: Store, registry: Registry, courier: Courier, publisher: Publisher): Promise<Storage> {
		const { call, logger, namespace, nodeID } = this.identity;
		const { metrics, options } = this;
		const queues = systemQueues(namespace);
		if (options.redis) this.#redis = await connectRedis(options.redis, logger);
		await registry.start();
		const waiters = this.#waiters;
		const inserter = new Inserter(store, options.maxPending);
		const onDead = (messages: DeadMessage[]) => {
			for (const { id, reason } of messages) logger.warn(`Reliable: message ${id} is dead: ${reason}`);
			for (const listener of this.#listeners) listener.dead(messages);
		};
		const onError = this.reportError.bind(this);
		const tracker = new Tracker({
			...{ store, courier, registry, waiters, queues, metrics, logger, nodeID, onDead, onError, retainMs: options.retainMs },
			onChecks: deliveries => checks.take(deliveries),
			onConsumed: ids => {
				for (const listener of this.#listeners) listener.consumed(ids);
			}
		});
		const recordFailures = tracker.record.bind(tracker);
		const outbox = new Outbox({ store, inserter, publisher, waiters, metrics, logger, recordFailures, confirmTimeoutMs: options.confirmTimeoutMs });
		const leases = this.#redis && new Leases(this.#redis.client, { prefix: prefixOf(namespace), owner: `${nodeID}#${uuidv7()}`, ttlMs: options.leaseMs, partitions: options.partitions, logger });
		leases?.on("unreachable", (error: Error) => onError(error, "redis"));
		const copies = new Producer({ publisher, store, call, askTimeoutMs: options.askTimeoutMs, maxPayloadBytes: 0, prefix: prefixOf(namespace), sendsJobs: false });
		const rounds = new Rounds({ call, copies, queueOf: (group, event) => registry.queueOf(group, event), queues, askTimeoutMs: options.askTimeoutMs, logger });
		const { pageSize, claimMs, producerGoneMs } = options;
		const parts = { store, courier, publisher, registry, rounds, metrics, logger, nodeID, pageSize, claimMs, producerGoneMs, recordFailures, onError, tellDead: tracker.tellDead.bind(tracker), whoever: (messages: Message[]) => tracker.whoever(messages) };
		const checks = new Checks(parts, options.retainMs);
		const sweeper = new Sweeper(parts, leases, { everyMs: options.sweepEveryMs, partitions: options.partitions, retainMs: options.retainMs });
		const compensation = new Compensation(store, () => void sweeper.once().catch(error => logger.debug(`Reliable: the sweep after a retry failed: ${reasonOf(error)}`)), (act, ids, by) => {
			for (const listener of this.#listeners) listener.acted(act, ids, by);
		});
		return { store, registry, inserter, outbox, tracker, sweeper, compensation };
	}

	/** Tracker and sweeper: what the service `reliable` runs. Idempotent. */
	track(): Promise<void> {
		const { tracker, sweeper } = this.needStorage();
		this.#tracking ??= tracker.start().then(() => (this.options.sweeper ? sweeper.start() : undefined));
		return this.#tracking;
	}

	/** See the mixin's `reliableEmit`. */
	async emit(source: EmitSource, event: string, payload: unknown, options: EmitOptions): Promise<EmitResult> {
		if (this.#phase !== "started") throw this.#notRunning(event);
		const strategy = options?.strategy ?? source.options.strategy;
		if (strategy !== "callback") this.needStorage();
		const waitingFor = (groups?: string[]) => this.#storage?.registry.waitingFor(event, groups) ?? groups ?? [ANY_GROUP];
		const message = newMessage(source, event, payload, options, { id: () => uuidv7(), waitingFor });
		const write = options.commit && this.#businessWrite(message, payload, options.commit);
		const started = performance.now();
		const chosen = (strategy === "callback" ? this.#callback : this.needStorage().outbox) as Strategy;
		const result = await chosen.emit(message, emitPlan(options, this.options, write));
		this.metrics.emitted(event);
		this.metrics.time("emit.time", performance.now() - started, event);
		return result;
	}

	#businessWrite({ _id: id, event, intent }: Message, payload: unknown, commit: NonNullable<EmitOptions["commit"]>): Required<Pick<EmitPlan, "commit" | "undone">> {
		let fenced = false;
		const barrier = async (session: unknown) => {
			await this.needStorage().store.barrier(session, id);
			fenced = true;
		};
		return {
			commit: async () => {
				await commit({ id, event, payload, barrier });
				// It is done and will be announced; but had we died in it, nobody could have told.
				if (intent === "barrier" && !fenced) this.identity.logger.error(`Reliable: the 'commit' of '${event}' (${id}) promised a barrier row and wrote none; after a crash it would have been withdrawn.`);
			},
			// The transaction may have been committed, and only the answer was lost.
			undone: async () => !fenced || this.needStorage().store.undone(id).catch(() => false)
		};
	}

	/** What the mixin's action `reliableResend` does: answers for the messages of this node's services. */
	async answer(request: ResendRequest, service: ServiceOptions): Promise<ResendAnswer> {
		if (this.#phase !== "started" || !this.#publisher) throw this.#notRunning();
		const { call, namespace } = this.identity;
		const producer = new Producer({ publisher: this.#publisher, store: this.#storage?.store, call, askTimeoutMs: this.options.askTimeoutMs, maxPayloadBytes: service.maxPayloadBytes, sendsJobs: service.sendsJobs === true, prefix: prefixOf(namespace) });
		return producer.answer(request);
	}

	/** Starts a consumer. Rejects with RELIABLE_QUEUE_MISMATCH or RELIABLE_BAD_CONSUMER. */
	async consume(spec: ConsumerSpec): Promise<Consumer> {
		const courier = this.#courier;
		if (this.#phase !== "started" || !courier) throw this.#notRunning();
		const store = this.#storage?.store;
		if (spec.options.inbox === "transaction" && !store?.features.transactions) {
			throw new ReliableError("RELIABLE_BAD_CONSUMER", `The handler of '${spec.pattern}' in group ${spec.group} wants inbox: "transaction", which needs MongoDB on this node (option 'mongo').`, { option: "inbox", event: spec.pattern, group: spec.group });
		}
		mustAgree(spec, this.#consumers);
		const { logger, nodeID, namespace } = this.identity;
		const consumer = new Consumer(spec, { courier, store, queues: systemQueues(namespace), metrics: this.metrics, logger, nodeID, onError: this.reportError.bind(this) });
		this.#consumers.add(consumer);
		try {
			await consumer.start();
		} catch (error) {
			this.#consumers.delete(consumer);
			throw error;
		}
		return consumer;
	}

	async stopConsumer(consumer: Consumer): Promise<void> {
		await consumer.stop(this.options.drainTimeoutMs);
		this.#consumers.delete(consumer);
	}

	reportError(thrown: unknown, module: string): void {
		const error = bare(thrown);
		for (const listener of this.#listeners) listener.error(error, module);
	}

	#notRunning(event?: string): ReliableError {
		const what = event ? `Cannot emit '${event}' reliably` : "Not possible";
		return this.#phase === "stopped"
			? new ReliableError("RELIABLE_STOPPED", `${what}: the node has stopped. Nothing was stored.`, { event })
			: new ReliableError("RELIABLE_NOT_STARTED", `${what}: the service has not started yet; \`started()\` is the earliest place. Nothing was stored.`, { event });
	}

	async #stop(): Promise<void> {
		this.#phase = "stopped";
		const deadline = performance.now() + this.options.drainTimeoutMs;
		const left = () => Math.max(0, deadline - performance.now());
		const storage = this.#storage;
		await storage?.sweeper.stop(left());
		await atMost(this.#callback?.idle() ?? Promise.resolve(), left());
		this.#callback?.stop();
		if (storage) {
			await atMost(storage.outbox.idle(), left());
			storage.inserter.stop();
			if (this.#tracking) await storage.tracker.stop(left());
			storage.registry.stop();
		}
		this.#waiters.stop();
		await this.#close(left());
		this.#starting = this.#tracking = undefined;
	}

	async #close(drainTimeoutMs: number): Promise<void> {
		await this.#sampler?.stop();
		await this.#courier?.close(drainTimeoutMs);
		await this.#store?.close();
		await this.#redis?.close();
		this.#courier = this.#store = this.#storage = this.#redis = this.#publisher = this.#callback = this.#sampler = undefined;
	}
}
