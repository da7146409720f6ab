import type { PublishResult } from "../couriers/courier";
import { ReliableError, ReliableRetryableError } from "../errors";
import { MAX_CHECK_BYTES, encodePlan } from "../message/check";
import { WITHDRAWAL_TYPE, WIRE_VERSION, type Withdrawal } from "../message/envelope";
import { STATUS } from "../message/lifecycle";
import type { Message } from "../message/message";
import type { Metrics } from "../metrics";
import type { Publisher } from "../publisher";
import type { Waiters } from "../waiters";
import type { EmitPlan, EmitResult, Strategy } from "./strategy";

export interface CallbackParts {
	publisher: Publisher;
	waiters: Waiters;
	metrics: Metrics;
}

/**
 * Nothing is stored on the producer's path: first the delayed check goes out, then (with `commit`) the business write is done, then the
 * message. See `strategy.ts` for what that promises.
 */
export class Callback implements Strategy {
	readonly #emitting = new Set<Promise<unknown>>();

	constructor(readonly parts: CallbackParts) {}

	async emit(message: Message, plan: EmitPlan): Promise<EmitResult> {
		const started = performance.now();
		const { _id: id, event } = message;
		const work = this.#send(message, plan);
		const settled = work.catch(() => undefined).finally(() => this.#emitting.delete(settled));
		this.#emitting.add(settled);
		await work;
		if (plan.waitFor !== "consumed") return { id, status: STATUS.published };
		const left = Math.max(0, plan.timeoutMs - (performance.now() - started));
		return { id, status: await this.parts.waiters.wait(id, event, "consumed", left) };
	}

	async idle(): Promise<void> {
		while (this.#emitting.size) await Promise.all(this.#emitting);
	}

	/** Check, business write, message. */
	async #send(message: Message, plan: EmitPlan): Promise<void> {
		const { event } = message;
		const { publisher, metrics } = this.parts;
		if (plan.session) throw new ReliableError("RELIABLE_BAD_OPTION", `'session' has nothing to join with strategy 'callback', which stores no message ('${event}'); use 'commit', or strategy 'outbox'.`, { option: "session", event });
		if (!message.source && message.body.length > MAX_CHECK_BYTES) {
			throw new ReliableError("RELIABLE_PAYLOAD_TOO_LARGE", `The payload of '${event}' is ${message.body.length} bytes, too large to travel in a check (${MAX_CHECK_BYTES}); give 'source', or use strategy 'outbox'.`, { event, bytes: message.body.length, maxCheckBytes: MAX_CHECK_BYTES });
		}
		await this.#brokerReady(message, plan.timeoutMs);

		const check = await publisher.check(message, 1);
		if (check.outcome !== "confirmed") throw notTaken(message, check, "the check");
		if (plan.commit) {
			try {
				await plan.commit();
			} catch (error) {
				await this.#withdraw(message);
				throw error;
			}
		}
		const result = await publisher.toAll(message, 1);
		metrics.outcome(event, result.outcome);
		// The business write has happened: its caller must not take it back. The check is out and will see to the message.
		if (result.outcome !== "confirmed" && !plan.commit) throw notTaken(message, result, "the message");
	}

	/** There is nothing to keep the message in meanwhile but the caller's patience. */
	#brokerReady(message: Message, timeoutMs: number): Promise<void> {
		const { courier } = this.parts.publisher;
		if (courier.ready) return Promise.resolve();
		return new Promise((resolve, reject) => {
			const unsubscribe = courier.on("ready", () => done(resolve));
			const error = new ReliableRetryableError("RELIABLE_NOT_STORED", `RabbitMQ could not be reached within ${timeoutMs} ms; nothing was sent of '${message.event}' (${message._id}).`, { id: message._id, event: message.event, timeoutMs });
			const timer = setTimeout(() => done(() => reject(error)), timeoutMs);
			const done = (settle: () => void) => {
				unsubscribe();
				clearTimeout(timer);
				settle();
			};
		});
	}

	/** Best effort: should it get lost, the check asks and learns the same. */
	async #withdraw(message: Message): Promise<void> {
		const { publisher } = this.parts;
		const withdrawal: Withdrawal = { v: WIRE_VERSION, id: message._id, echo: { event: message.event, producer: message.producer, plan: encodePlan(message) } };
		await publisher.courier.publish({ to: { queue: publisher.queues.callbackReceipts }, messageId: message._id, type: WITHDRAWAL_TYPE, headers: {}, body: Buffer.from(JSON.stringify(withdrawal)) });
	}
}

function notTaken(message: Message, { outcome, reason }: PublishResult, what: string): Error {
	const { _id: id, event } = message;
	const data = { id, event, outcome, reason };
	if (what === "the check" && outcome !== "unknown") return new ReliableRetryableError("RELIABLE_NOT_STORED", `The broker did not take the check of '${event}' (${id}): ${outcome}, ${reason}. Nothing was sent.`, data);
	return new ReliableRetryableError("RELIABLE_OUTCOME_UNKNOWN", `It is not known whether '${event}' (${id}) will be delivered: ${what} was ${outcome} (${reason}). Emit it again with this id; groups with an inbox handle it once.`, data);
}
