import type { PublishResult } from "../couriers/courier";
import { ReliableError, ReliableRetryableError } from "../errors";
import { InHand } from "../in-hand";
import { delayOf, encodePlan, MAX_CHECK_BYTES } from "../message/check";
import { WIRE_VERSION } from "../message/envelope";
import { STATUS } from "../message/lifecycle";
import type { Message } from "../message/message";
import { WITHDRAWAL_TYPE, type Withdrawal } from "../message/receipt";
import type { Metrics } from "../metrics";
import type { Publisher } from "../publisher";
import type { Waiters } from "../waiters";
import type { EmitPlan, EmitResult, Strategy } from "./strategy";

/** What is larger goes out one after the other: it takes its time on the wire, and two copies of it would only fill the line. */
const MAX_TOGETHER_BYTES = 8192;

export interface CallbackParts {
	publisher: Publisher;
	waiters: Waiters;
	metrics: Metrics;
}

/**
 * Nothing is stored on the producer's path: the delayed check and the message go out together; with `commit` the business write is done
 * between them. See `strategy.ts` for what that promises.
 */
export class Callback implements Strategy {
	readonly #sending = new InHand();
	readonly #unready = new Set<() => void>();

	constructor(readonly parts: CallbackParts) {}

	async emit(message: Message, plan: EmitPlan): Promise<EmitResult> {
		const { _id: id, event } = message;
		const started = performance.now();
		this.#sending.begin();
		let confirmed: boolean;
		try {
			confirmed = await this.#send(message, plan);
		} finally {
			this.#sending.end();
		}
		if (plan.waitFor === "stored" || (plan.waitFor === "confirmed" && confirmed)) return { id, status: confirmed ? STATUS.published : STATUS.pending };
		return { id, status: await this.parts.waiters.wait(id, event, plan.waitFor, Math.max(0, plan.timeoutMs - (performance.now() - started))) };
	}

	idle(): Promise<void> {
		return this.#sending.idle();
	}

	/** Whoever still waits for the broker is rejected. */
	stop(): void {
		for (const giveUp of this.#unready) giveUp();
	}

	/** Resolves when the promise holds: true = the message too is confirmed and routed. */
	async #send(message: Message, plan: EmitPlan): Promise<boolean> {
		this.#refuse(message, plan);
		const patience = new Patience(plan.timeoutMs);
		try {
			if (!this.parts.publisher.courier.ready) await this.#brokerReady(message, plan.timeoutMs);
			return await (plan.commit ? this.#sendAround(message, plan, plan.commit, patience) : this.#sendBoth(message, patience));
		} finally {
			patience.end();
		}
	}

	/** Check and message at once, in this order on one channel: nothing is promised before both are confirmed, and their receipts may come in any order. */
	async #sendBoth(message: Message, patience: Patience): Promise<boolean> {
		const { publisher, metrics } = this.parts;
		const checking = patience.with(publisher.check(message, 1));
		if (message.body.length > MAX_TOGETHER_BYTES) mustBeConfirmed(message, await checking);
		const [check, result] = await Promise.all([checking, patience.with(publisher.toAll(message, 1))]);
		metrics.outcome(message.event, result.outcome);
		mustBeConfirmed(message, check, result);
		if (result.outcome !== "confirmed") throw notKnown(message, result, "the message");
		return true;
	}

	/** The business write stands between them. */
	async #sendAround(message: Message, plan: EmitPlan, commit: () => Promise<void>, patience: Patience): Promise<boolean> {
		const { publisher, metrics } = this.parts;
		// Its check says that it comes before the business write.
		message.status = STATUS.intended;
		mustBeConfirmed(message, await patience.with(publisher.check(message, 1)));
		await this.#commit(message, plan, commit);
		// A business write takes its time; what follows it is not given up for that. It has happened, and its caller must not take it back: the check is out and will see to the message.
		const result = await publisher.toAll(message, 1);
		metrics.outcome(message.event, result.outcome);
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
		if (check.outcome !== "confirmed") throw notKnown(message, check, "the check after its business write, which has happened,");
	}

	/** There is nothing to keep the message in meanwhile but the caller's patience. */
	#brokerReady(message: Message, timeoutMs: number): Promise<void> {
		const { courier } = this.parts.publisher;
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

/** One timer for all that an emit waits for. What has not been answered by then may still be taken. */
class Patience {
	#timer: NodeJS.Timeout | undefined;
	readonly #late: Promise<PublishResult>;

	constructor(ms: number) {
		this.#late = new Promise(resolve => (this.#timer = setTimeout(() => resolve({ outcome: "unknown", reason: "no answer within timeoutMs" }), ms)));
	}

	with(publishing: Promise<PublishResult>): Promise<PublishResult> {
		return Promise.race([publishing, this.#late]);
	}

	end(): void {
		clearTimeout(this.#timer);
	}
}

function isOut({ outcome, sent }: PublishResult): boolean {
	return outcome === "confirmed" || (outcome === "unknown" && sent !== false);
}

/** `result`: what has become of the message, if that was sent, too. */
function mustBeConfirmed(message: Message, check: PublishResult, result?: PublishResult): void {
	if (check.outcome === "confirmed") return;
	if (isOut(check) || (result && isOut(result))) throw notKnown(message, check, "the check");
	const { _id: id, event } = message;
	const { outcome, reason } = check;
	throw new ReliableRetryableError("RELIABLE_NOT_STORED", `The broker did not take the check of '${event}' (${id}): ${outcome}, ${reason}. Nothing was sent.`, { id, event, outcome, reason });
}

function notKnown({ _id: id, event }: Message, { outcome, reason }: PublishResult, what: string): Error {
	return new ReliableRetryableError("RELIABLE_OUTCOME_UNKNOWN", `It is not known whether '${event}' (${id}) will be delivered: ${what} was ${outcome} (${reason}). Emit it again with this id; groups with an inbox handle it once.`, { id, event, outcome, reason });
}
