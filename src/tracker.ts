import { createHash } from "node:crypto";
import { backoffMs } from "./backoff";
import type { Consumption, Courier, Delivery } from "./couriers/courier";
import { reasonOf } from "./errors";
import type { Logger } from "./logger";
import { judgeFailure } from "./message/budget";
import { describeError, PARKED_TYPE, parseAnnouncement, parseEnvelope, parseReceipts, Unreadable, type ReceiptItem } from "./message/envelope";
import { STATUS } from "./message/lifecycle";
import type { Parked, Subscription } from "./message/message";
import type { Queues } from "./message/pattern";
import type { Metrics } from "./metrics";
import type { Registry } from "./registry";
import type { DeadMessage, FailedRecord, HandledRecord, Store } from "./stores/store";
import type { Waiters } from "./waiters";

/** Messages taken together; a receipt message may hold many receipts itself. */
const MAX_BATCH = 200;
const PREFETCH = 1000;
const RETRY = { initialMs: 200, maxMs: 10_000, jitter: "half" } as const;

export interface TrackerParts {
	store: Store;
	courier: Courier;
	registry: Registry;
	waiters: Waiters;
	queues: Queues;
	metrics: Metrics;
	logger: Logger;
	nodeID: string;
	/** Tells the world of messages that became consumed or dead here. */
	onConsumed(ids: string[]): void;
	onDead(messages: DeadMessage[]): void;
}

type Answer = { nodeID: string; group: string; item: ReceiptItem };

/**
 * Receipts → store. Any number of trackers compete on the same queues. A message from a queue is acked after the store has what it says;
 * every store verb may be repeated, so a crash in between only does it again. Receipts may come early, late, twice or out of order:
 * the conditions are in the store's filters, not in the order of arrival.
 */
export class Tracker {
	readonly #lines: Line[] = [];

	constructor(readonly parts: TrackerParts) {}

	async start(): Promise<void> {
		const { courier, queues, logger, store } = this.parts;
		const lines: [string, (deliveries: Delivery[]) => Promise<void>][] = [
			[queues.parked, deliveries => this.#parked(deliveries)],
			[queues.receipts, deliveries => this.#receipts(deliveries)],
			[queues.announcements, deliveries => this.#announcements(deliveries)]
		];
		for (const [queue, handle] of lines) {
			const line = new Line(queue, handle, store, logger);
			this.#lines.push(line);
			await line.start(courier);
		}
	}

	async stop(drainTimeoutMs: number): Promise<void> {
		await Promise.all(this.#lines.map(line => line.stop(drainTimeoutMs)));
	}

	async #receipts(deliveries: Delivery[]): Promise<void> {
		const handled: (Answer & { delivery: Delivery })[] = [];
		const failed: (Answer & { delivery: Delivery })[] = [];
		const parked: Parked[] = [];
		for (const delivery of deliveries) {
			try {
				const { group, nodeID, items } = parseReceipts(delivery.body);
				for (const item of items) (item.outcome === "handled" ? handled : failed).push({ group, nodeID, item, delivery });
			} catch (error) {
				if (!(error instanceof Unreadable)) throw error;
				parked.push(this.#park(delivery, error.message));
			}
		}
		const unknown = new Set([...(await this.#handled(handled)), ...(await this.#failed(failed))]);
		for (const { item, delivery } of [...handled, ...failed]) {
			if (unknown.has(item.id)) parked.push(this.#park(delivery, `receipt for an id that is not in the store: ${item.id}`));
		}
		if (parked.length) await this.parts.store.park(parked);
	}

	/** Returns the ids that are not in the store. */
	async #handled(answers: Answer[]): Promise<string[]> {
		if (!answers.length) return [];
		const at = new Date();
		const records: HandledRecord[] = answers.map(({ group, nodeID, item }) => ({ id: item.id, group, receipt: { at, nodeID, durationMs: item.durationMs, attempt: item.attempt } }));
		const { unknown, duplicates, consumed, dead } = await this.parts.store.handled(records);
		this.parts.metrics.count("receipts", records.length);
		this.parts.metrics.count("receipts.duplicate", duplicates);
		this.parts.metrics.count("consumed", consumed.length);
		for (const id of consumed) this.parts.waiters.saw(id, STATUS.consumed);
		if (consumed.length) this.parts.onConsumed(consumed);
		this.#tellDead(dead);
		return unknown;
	}

	/** Returns the ids that are not in the store. */
	async #failed(answers: Answer[]): Promise<string[]> {
		if (!answers.length) return [];
		const { store, metrics } = this.parts;
		const messages = new Map((await store.find([...new Set(answers.map(answer => answer.item.id))])).map(message => [message._id, message]));
		const now = new Date();
		const records: FailedRecord[] = [];
		for (const { group, nodeID, item } of answers) {
			const message = messages.get(item.id);
			if (!message) continue;
			const cause = item.rejected ? "rejected" : "handler";
			const error = item.error ?? { name: "Error", message: "the handler failed" };
			// A receipt may come from another language: what has the right shape is kept, bounded here too.
			records.push(judgeFailure(message, group, item.attempt, cause, describeError(error), { now, retryable: item.retryable !== false, nodeID }));
		}
		metrics.count("receipts.failed", answers.length);
		await this.record(records);
		return answers.map(answer => answer.item.id).filter(id => !messages.has(id));
	}

	/** Writes failures, and tells of messages they made `dead`. The sweeper's failures go this way too. */
	async record(records: FailedRecord[]): Promise<void> {
		if (!records.length) return;
		this.#tellDead((await this.parts.store.failed(records)).dead);
	}

	#tellDead(dead: DeadMessage[]): void {
		if (!dead.length) return;
		this.parts.metrics.dead(dead.length);
		for (const { id, reason } of dead) this.parts.waiters.saw(id, STATUS.dead, reason);
		this.parts.onDead(dead);
	}

	async #announcements(deliveries: Delivery[]): Promise<void> {
		const known = new Map<string, Subscription>();
		const parked: Parked[] = [];
		const now = new Date();
		for (const delivery of deliveries) {
			try {
				const { pattern, group, queue, nodeID, service } = parseAnnouncement(delivery.body);
				known.set(queue, { pattern, group, queue, nodeID, service, firstSeenAt: now, seenAt: now });
			} catch (error) {
				if (!(error instanceof Unreadable)) throw error;
				parked.push(this.#park(delivery, error.message));
			}
		}
		if (parked.length) await this.parts.store.park(parked);
		if (!known.size) return;
		await this.parts.store.announce([...known.values()]);
		await this.parts.registry.refresh();
	}

	/** What consumers could not read, and what RabbitMQ gave up delivering (`x-death`). */
	async #parked(deliveries: Delivery[]): Promise<void> {
		const parked: Parked[] = [];
		const failures: FailedRecord[] = [];
		for (const delivery of deliveries) {
			if (delivery.type === PARKED_TYPE && delivery.headers["x-reliable-queue"]) {
				parked.push(this.#park(delivery, String(delivery.headers["x-reliable-reason"] ?? "unknown")));
				continue;
			}
			const failure = await this.#crashLoop(delivery);
			if (failure) failures.push(failure);
			else parked.push(this.#park(delivery, "RabbitMQ gave up delivering it (x-delivery-limit)"));
		}
		if (failures.length) await this.record(failures);
		if (parked.length) {
			await this.parts.store.park(parked);
			this.parts.metrics.count("parked.stored", parked.length);
		}
	}

	/** A message of ours whose consumers died on it until the broker's fuse blew: one failed attempt of that group. */
	async #crashLoop(delivery: Delivery): Promise<FailedRecord | undefined> {
		const [death] = Array.isArray(delivery.headers["x-death"]) ? (delivery.headers["x-death"] as { queue?: unknown }[]) : [];
		const group = typeof death?.queue === "string" ? this.parts.registry.groupOfQueue(death.queue) : undefined;
		if (!group) return undefined;
		try {
			const { id, attempt } = parseEnvelope(delivery);
			const [message] = await this.parts.store.find([id]);
			if (!message?.open) return undefined;
			const error = { name: "CrashLoop", message: "its consumers went away before they answered, until the broker gave up (x-delivery-limit)", code: "DELIVERY_LIMIT" };
			return judgeFailure(message, group, attempt, "crash-loop", error, { now: new Date() });
		} catch (error) {
			if (error instanceof Unreadable) return undefined;
			throw error;
		}
	}

	#park(delivery: Delivery, reason: string): Parked {
		const { messageId, type, contentType, timestamp, appId, headers } = delivery;
		const own = type === PARKED_TYPE;
		if (!own) {
			this.parts.metrics.parked(delivery.queue);
			this.parts.logger.warn(`Reliable: parked a message from ${delivery.queue}: ${reason}.`);
		}
		const { queue, epoch, tag, body } = delivery;
		// Delivered again after a crash it must be the same record; strangers may bear the same id, or none.
		const stranger = messageId ? `${messageId}#${createHash("sha1").update(body).digest("hex")}` : `${queue}#${this.parts.nodeID}#${epoch}#${tag}#${Date.now()}`;
		return {
			_id: own && messageId ? messageId : stranger,
			at: new Date(),
			queue: own ? String(headers["x-reliable-queue"]) : queue,
			reason,
			nodeID: own ? String(headers["x-reliable-node"]) : this.parts.nodeID,
			body,
			properties: own ? parsed(headers["x-reliable-properties"]) : { messageId, type, contentType, timestamp, appId },
			headers: own ? parsed(headers["x-reliable-headers"]) : headers
		};
	}
}

function parsed(json: unknown): Record<string, unknown> {
	try {
		return JSON.parse(String(json)) as Record<string, unknown>;
	} catch {
		// Cut to size on its way here.
		return { raw: String(json) };
	}
}

/** One queue consumed in batches: while the store writes one, the next collects. */
class Line {
	#held: Delivery[] = [];
	#running: Promise<void> | undefined;
	#consumption: Consumption | undefined;
	#stopping = false;

	constructor(
		readonly queue: string,
		readonly handle: (deliveries: Delivery[]) => Promise<void>,
		readonly store: Store,
		readonly logger: Logger
	) {}

	async start(courier: Courier): Promise<void> {
		const spec = { queue: { name: this.queue }, prefetch: PREFETCH, onDelivery: (delivery: Delivery) => this.#take(delivery) };
		await courier.declare(spec.queue);
		const consumed = courier.consume(spec).then(async consumption => {
			this.#consumption = consumption;
			if (this.#stopping) await consumption.close();
		});
		if (courier.ready) await consumed;
		else consumed.catch(error => this.logger.error(`Reliable: cannot track ${this.queue}: ${reasonOf(error)}`));
	}

	async stop(drainTimeoutMs: number): Promise<void> {
		await this.#consumption?.cancel();
		let timer: NodeJS.Timeout | undefined;
		await Promise.race([this.#running, new Promise(resolve => (timer = setTimeout(resolve, drainTimeoutMs)))]);
		clearTimeout(timer);
		this.#stopping = true;
		await this.#consumption?.close();
	}

	#take(delivery: Delivery): void {
		this.#held.push(delivery);
		this.#running ??= this.#run().finally(() => (this.#running = undefined));
	}

	async #run(): Promise<void> {
		await Promise.resolve();
		let failures = 0;
		while (this.#held.length && !this.#stopping) {
			const batch = this.#held.slice(0, MAX_BATCH);
			try {
				await this.handle(batch);
			} catch (error) {
				// Held unacked until the store takes it; the prefetch bounds how much that can be.
				if (++failures === 1) this.logger.warn(`Reliable: ${this.queue} waits for the store: ${reasonOf(error)}`);
				await new Promise(resolve => setTimeout(resolve, this.store.ready ? backoffMs(RETRY, failures) : RETRY.initialMs));
				continue;
			}
			failures = 0;
			this.#held.splice(0, batch.length);
			ackAll(batch);
		}
	}
}

/** In order of arrival, so the last of each epoch acks all before it. */
function ackAll(batch: Delivery[]): void {
	batch.forEach((delivery, i) => {
		if (batch[i + 1]?.epoch !== delivery.epoch) delivery.ackUpTo();
	});
}
