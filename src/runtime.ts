import { uuidv7 } from "uuidv7";
import { Compensation } from "./compensation";
import { Consumer, type ConsumerSpec } from "./consumer/consumer";
import { AmqpCourier } from "./couriers/amqp/courier";
import type { Courier } from "./couriers/courier";
import { MemoryCourier } from "./couriers/memory";
import { emitPlan, newMessage, type EmitOptions, type EmitSource } from "./emit";
import { ReliableError, reasonOf } from "./errors";
import type { Logger } from "./logger";
import { prefixOf, systemQueues } from "./message/pattern";
import { Metrics } from "./metrics";
import { mergeNode, nodeOptions, type AmqpOption, type ConsumerOptions, type NodeOptions } from "./options";
import { Publisher } from "./publisher";
import { Registry } from "./registry";
import { EmbeddedStore } from "./stores/embedded";
import { MongoStore } from "./stores/mongo";
import type { DeadMessage, Store } from "./stores/store";
import { Inserter } from "./strategies/inserter";
import { Outbox } from "./strategies/outbox";
import type { EmitResult } from "./strategies/strategy";
import { Leases } from "./sweeper/lease";
import { connectRedis, type RedisConnection } from "./sweeper/redis";
import { Sweeper } from "./sweeper/sweeper";
import { Tracker } from "./tracker";
import { Waiters } from "./waiters";

/** Who we are on the Moleculer side. */
export interface Identity {
	nodeID: string;
	namespace: string;
	logger: Logger;
}

export interface LifecycleListener {
	consumed(ids: string[]): void;
	dead(messages: DeadMessage[]): void;
	/** A failure in the background that nobody is waiting for. */
	error(error: Error, module: string): void;
}

/** What exists once the store part of a node is up. */
interface Storage {
	store: Store;
	registry: Registry;
	inserter: Inserter;
	outbox: Outbox;
	waiters: Waiters;
	tracker: Tracker;
	sweeper: Sweeper;
	compensation: Compensation;
}

/** Where a configuration comes from; embedded parts have no server. */
export interface Backends {
	courier: "amqp" | "memory";
	store: "mongodb" | "embedded" | "none";
	redis: "redis" | "none";
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

	constructor(readonly identity: Identity) {}

	/** Node options of a further service. Throws RELIABLE_BAD_OPTION when it contradicts another's. */
	configure(values: Record<string, unknown>, service: string): void {
		mergeNode(this.#values, values, service);
	}

	get options(): NodeOptions {
		return this.#options ?? nodeOptions(this.#values);
	}

	get backends(): Backends {
		const { amqp, mongo, redis, path } = this.options;
		return { courier: amqp ? "amqp" : "memory", store: mongo ? "mongodb" : !amqp || path ? "embedded" : "none", redis: redis ? "redis" : "none" };
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
		const { amqp } = this.#options;
		this.#courier = amqp ? this.#amqpCourier(amqp) : new MemoryCourier({ namespace, logger });
		this.#courier.on("error", error => this.reportError(error, "courier"));
		const store = (this.#store = this.#newStore());
		const starts = await Promise.allSettled([this.#courier.start(), store?.start()]);
		for (const start of starts) if (start.status === "rejected") throw start.reason;
		if (store) this.#storage = await this.#assemble(store, this.#courier);
		this.#phase = "started";
		const { courier, store: storeName, redis } = this.backends;
		const limits = [
			courier === "memory" ? "in-process courier (messages reach this process only; what is under way is sent again from the store after a restart)" : "RabbitMQ",
			storeName === "none" ? "no store (consumes, does not emit)" : storeName === "mongodb" ? "MongoDB" : store?.features.durable ? `embedded store in ${this.#options.path} (this process only, no transactions)` : "embedded store in memory (gone with the process, no transactions)",
			redis === "none" ? "no Redis lease" : "Redis lease"
		];
		logger.info(`Reliable: node ${nodeID} runs on ${limits.join(", ")}.`);
	}

	#amqpCourier(amqp: AmqpOption): Courier {
		const { logger, namespace, nodeID } = this.identity;
		const { confirmTimeoutMs, window } = this.options;
		const given = typeof amqp === "string" || Array.isArray(amqp) ? { urls: amqp } : amqp;
		return new AmqpCourier({ urls: given.urls, socket: given.tls, namespace, nodeID, logger, confirmTimeoutMs, window });
	}

	#newStore(): Store | undefined {
		const { logger, namespace } = this.identity;
		const { mongo, database, path } = this.options;
		const { store } = this.backends;
		if (store === "mongodb") return new MongoStore({ ...(typeof mongo === "string" ? { url: mongo } : { client: mongo }), database, namespace, logger });
		return store === "embedded" ? new EmbeddedStore({ path, namespace, logger }) : undefined;
	}

	async #assemble(store: Store, courier: Courier): Promise<Storage> {
		const { logger, namespace, nodeID } = this.identity;
		const { metrics, options } = this;
		const queues = systemQueues(namespace);
		if (options.redis) this.#redis = await connectRedis(options.redis, logger);
		await courier.declare({ name: queues.receipts });
		const registry = new Registry(store, options.refreshMs, logger);
		await registry.start();
		const publisher = new Publisher(courier, registry, queues.receipts);
		const waiters = new Waiters(store);
		const inserter = new Inserter(store, options.maxPending);
		const onDead = (messages: DeadMessage[]) => {
			for (const { id, reason } of messages) logger.warn(`Reliable: message ${id} is dead: ${reason}`);
			for (const listener of this.#listeners) listener.dead(messages);
		};
		const tracker = new Tracker({
			...{ store, courier, registry, waiters, queues, metrics, logger, nodeID, onDead },
			onConsumed: ids => {
				for (const listener of this.#listeners) listener.consumed(ids);
			}
		});
		const recordFailures = tracker.record.bind(tracker);
		const outbox = new Outbox({ store, inserter, publisher, waiters, metrics, logger, recordFailures, confirmTimeoutMs: options.confirmTimeoutMs });
		const leases = this.#redis && new Leases(this.#redis.client, { prefix: prefixOf(namespace), owner: `${nodeID}#${uuidv7()}`, ttlMs: options.leaseMs, partitions: options.partitions, logger });
		const sweeper = new Sweeper(
			{ store, courier, publisher, registry, metrics, logger, nodeID, pageSize: options.pageSize, claimMs: options.claimMs, recordFailures },
			leases,
			{ everyMs: options.sweepEveryMs, partitions: options.partitions, retainMs: options.retainMs }
		);
		const compensation = new Compensation(store, () => void sweeper.once().catch(error => logger.debug(`Reliable: the sweep after a retry failed: ${reasonOf(error)}`)));
		return { store, registry, inserter, outbox, waiters, tracker, sweeper, compensation };
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
		const message = newMessage(source, event, payload, options, { id: () => uuidv7(), waitingFor: (groups?: string[]) => this.needStorage().registry.waitingFor(event, groups) });
		const started = performance.now();
		const result = await this.needStorage().outbox.emit(message, emitPlan(options, this.options));
		this.metrics.emitted(event);
		this.metrics.time("emit", performance.now() - started, { event });
		return result;
	}

	/** Starts a consumer. Rejects with RELIABLE_QUEUE_MISMATCH or RELIABLE_BAD_CONSUMER. */
	async consume(spec: ConsumerSpec): Promise<Consumer> {
		const courier = this.#courier;
		if (this.#phase !== "started" || !courier) throw this.#notRunning();
		const store = this.#storage?.store;
		if (spec.options.inbox === "transaction" && !store?.features.transactions) {
			throw new ReliableError("RELIABLE_BAD_CONSUMER", `The handler of '${spec.pattern}' in group ${spec.group} wants inbox: "transaction", which needs MongoDB on this node (option 'mongo').`, { option: "inbox", event: spec.pattern, group: spec.group });
		}
		this.#mustAgree(spec);
		const { logger, nodeID, namespace } = this.identity;
		const consumer = new Consumer(spec, { courier, store, queues: systemQueues(namespace), metrics: this.metrics, logger, nodeID });
		this.#consumers.add(consumer);
		try {
			await consumer.start();
		} catch (error) {
			this.#consumers.delete(consumer);
			throw error;
		}
		return consumer;
	}

	/** Two services of one group handle the same event by turns, so their options must agree. Throws RELIABLE_BAD_CONSUMER. */
	#mustAgree({ group, pattern, options, service }: ConsumerSpec): void {
		for (const { spec: other } of this.#consumers) {
			if (other.group !== group || other.pattern !== pattern) continue;
			const differs = (Object.keys(options) as (keyof ConsumerOptions)[]).find(name => other.options[name] !== options[name]);
			if (!differs) continue;
			throw new ReliableError("RELIABLE_BAD_CONSUMER", `The services '${other.service}' and '${service}' both handle '${pattern}' in group '${group}', with different '${differs}' (${other.options[differs]} and ${options[differs]}).`, { option: differs, group, event: pattern, services: [other.service, service] });
		}
	}

	async stopConsumer(consumer: Consumer): Promise<void> {
		await consumer.stop(this.options.drainTimeoutMs);
		this.#consumers.delete(consumer);
	}

	reportError(error: Error, module: string): void {
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
		if (storage) {
			await storage.sweeper.stop();
			await atMost(storage.outbox.idle(), left());
			storage.inserter.stop();
			if (this.#tracking) await storage.tracker.stop(left());
			storage.waiters.stop();
			storage.registry.stop();
		}
		await this.#close(left());
		this.#starting = this.#tracking = undefined;
	}

	async #close(drainTimeoutMs: number): Promise<void> {
		await this.#courier?.close(drainTimeoutMs);
		await this.#store?.close();
		await this.#redis?.close();
		this.#courier = this.#store = this.#storage = this.#redis = undefined;
	}
}

async function atMost(work: Promise<unknown>, ms: number): Promise<void> {
	let timer: NodeJS.Timeout | undefined;
	await Promise.race([work.catch(() => undefined), new Promise(resolve => (timer = setTimeout(resolve, ms)))]);
	clearTimeout(timer);
}
