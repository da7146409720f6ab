import type { PublishResult } from "../couriers/courier";
import { ReliableError, ReliableRetryableError } from "../errors";
import { delayOf, encodePlan, MAX_CHECK_BYTES } from "../message/check";
import { WIRE_VERSION } from "../message/envelope";
import { STATUS } from "../message/lifecycle";
import type { Message } from "../message/message";
import { WITHDRAWAL_TYPE, type Withdrawal } from "../message/receipt";
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
	readonly #sending = new Set<Promise<unknown>>();
	readonly #unready = new Set<() => void>();

	constructor(readonly parts: CallbackParts) {}

	async emit(message: Message, plan: EmitPlan): Promise<EmitResult> {
		const { _id: id, event } = message;
		const started = performance.now();
		const left = () => Math.max(0, plan.timeoutMs - (performance.now() - started));
		const sending = this.#send(message, plan, left);
		const settled = sending.catch(() => undefined).finally(() => this.#sending.delete(settled));
		this.#sending.add(settled);
		const confirmed = await sending;
		if (plan.waitFor === "stored" || (plan.waitFor === "confirmed" && confirmed)) return { id, status: confirmed ? STATUS.published : STATUS.pending };
		return { id, status: await this.parts.waiters.wait(id, event, plan.waitFor, left()) };
	}

	async idle(): Promise<void> {
		while (this.#sending.size) await Promise.all(this.#sending);
	}

	/** Whoever still waits for the broker is rejected. */
	stop(): void {
		for (const giveUp of this.#unready) giveUp();
	}

	/** Resolves when the promise holds: true = the message too is confirmed and routed. */
	async #send(message: Message, plan: EmitPlan, left: () => number): Promise<boolean> {
		const { publisher, metrics } = this.parts;
		this.#refuse(message, plan);
		await this.#brokerReady(message, plan.timeoutMs);

		// Its check says that it comes before the business write.
		if (plan.commit) message.status = STATUS.intended;
		const check = await within(publisher.check(message, 1), left());
		if (check.outcome !== "confirmed") throw notTaken(message, check, "the check");
		if (plan.commit) await this.#commit(message, plan, plan.commit);
		// A business write takes its time; what follows it is not given up for that.
		const result = await (plan.commit ? publisher.toAll(message, 1) : within(publisher.toAll(message, 1), left()));
		metrics.outcome(message.event, result.outcome);
		// The business write has happened: its caller must not take it back. The check is out and will see to the message.
		if (result.outcome !== "confirmed" && !plan.commit) throw notTaken(message, result, "the message");
		return result.outcome === "confirmed";
	}

	#refuse({ event, body, source }: Message, { session }: EmitPlan): void {
		if (session) throw new ReliableError("RELIABLE_BAD_OPTION", `'session' has nothing to join with strategy 'callback', which stores no message ('${event}'); use 'commit', or strategy 'outbox'.`, { option: "session", event });
		if (!source && body.length > MAX_CHECK_BYTES) {
			throw new ReliableError("RELIABLE_PAYLOAD_TOO_LARGE", `The payload of '${event}' is ${body.length} bytes, too large to travel in a check (${MAX_CHECK_BYTES}); give 'source', or use strategy 'outbox'.`, { event, bytes: body.length, maxCheckBytes: MAX_CHECK_BYTES });
		}
	}

	async #commit(message: Message, plan: EmitPlan, commit: () => Promise<void>): Promise<void> {
		const asked = performance.now() + delayOf(message, 1);
		try {
			await commit();
		} catch (error) {
			if ((await plan.undone?.()) !== false) await this.#withdraw(message);
			throw error;
		}
		message.status = STATUS.pending;
		if (performance.now() < asked) return;
		// The question may have been put meanwhile, and answered with "no". A check that asks nothing stands against it.
		message.createdAt = new Date(Math.max(Date.now(), message.createdAt.getTime() + 1));
		const check = await this.parts.publisher.check(message, 1);
		if (check.outcome !== "confirmed") throw notTaken(message, check, "the check after its business write, which has happened,");
	}

	/** There is nothing to keep the message in meanwhile but the caller's patience. */
	#brokerReady(message: Message, timeoutMs: number): Promise<void> {
		const { courier } = this.parts.publisher;
		if (courier.ready) return Promise.resolve();
		return new Promise((resolve, reject) => {
			const unsubscribe = courier.on("ready", () => done(resolve));
			const error = new ReliableRetryableError("RELIABLE_NOT_STORED", `RabbitMQ could not be reached within ${timeoutMs} ms; nothing was sent of '${message.event}' (${message._id}).`, { id: message._id, event: message.event, timeoutMs });
			const giveUp = () => done(() => reject(error));
			const timer = setTimeout(giveUp, timeoutMs);
			const done = (settle: () => void) => {
				unsubscribe();
				clearTimeout(timer);
				this.#unready.delete(giveUp);
				settle();
			};
			this.#unready.add(giveUp);
		});
	}

	/** Best effort: should it get lost, the check asks and learns the same. */
	async #withdraw(message: Message): Promise<void> {
		const { publisher } = this.parts;
		const withdrawal: Withdrawal = { v: WIRE_VERSION, id: message._id, echo: { event: message.event, producer: message.producer, plan: encodePlan(message) } };
		await publisher.courier.publish({ to: { queue: publisher.queues.callbackReceipts }, messageId: message._id, type: WITHDRAWAL_TYPE, headers: {}, body: Buffer.from(JSON.stringify(withdrawal)) });
	}
}

/** What has not been answered by then may still be taken. */
async function within(publishing: Promise<PublishResult>, ms: number): Promise<PublishResult> {
	let timer: NodeJS.Timeout | undefined;
	const late = new Promise<PublishResult>(resolve => (timer = setTimeout(() => resolve({ outcome: "unknown", reason: "no answer within timeoutMs" }), ms)));
	try {
		return await Promise.race([publishing, late]);
	} finally {
		clearTimeout(timer);
	}
}

function notTaken(message: Message, { outcome, reason }: PublishResult, what: string): Error {
	const { _id: id, event } = message;
	const data = { id, event, outcome, reason };
	if (what === "the check" && outcome !== "unknown") return new ReliableRetryableError("RELIABLE_NOT_STORED", `The broker did not take the check of '${event}' (${id}): ${outcome}, ${reason}. Nothing was sent.`, data);
	return new ReliableRetryableError("RELIABLE_OUTCOME_UNKNOWN", `It is not known whether '${event}' (${id}) will be delivered: ${what} was ${outcome} (${reason}). Emit it again with this id; groups with an inbox handle it once.`, data);
}
