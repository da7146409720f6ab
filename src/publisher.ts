import type { Courier, PublishResult } from "./couriers/courier";
import { reasonOf } from "./errors";
import { delayOf, encodePlan } from "./message/check";
import { HEADER, headersOf } from "./message/envelope";
import { STATUS } from "./message/lifecycle";
import { ANY_GROUP, type Message } from "./message/message";
import type { Queues } from "./message/pattern";
import type { Registry } from "./registry";

/** One attempt for one group. */
export interface Step {
	group: string;
	attempt: number;
}

/** Turns messages into publishes; the first publish and every resend go through here. */
export class Publisher {
	constructor(
		readonly courier: Courier,
		/** A node without a store knows no groups and publishes to the exchange only. */
		readonly registry: Registry | undefined,
		readonly queues: Queues
	) {}

	/**
	 * Publishes once per step, straight to the group's queue, so that each group has its own proof; ANY_GROUP goes to the exchange. A
	 * group without a known queue counts as returned.
	 */
	async toGroups(message: Message, steps: Step[]): Promise<PublishResult[]> {
		return Promise.all(
			steps.map(({ group, attempt }): Promise<PublishResult> => {
				if (group === ANY_GROUP) return this.toAll(message, attempt);
				const queue = this.registry?.queueOf(group, message.event);
				if (!queue) return Promise.resolve({ outcome: "returned", reason: `no queue is known for group ${group}` });
				return this.toQueue(message, queue, { group, attempt });
			})
		);
	}

	toQueue(message: Message, queue: string, { group, attempt }: Step): Promise<PublishResult> {
		return this.#publish(message, { queue }, attempt, [group]);
	}

	/** The delayed check of strategy `callback`. With a `source` the payload stays at home. */
	check(message: Message, round: number): Promise<PublishResult> {
		const headers: Record<string, unknown> = { ...this.#headers(message, round, message.groups ?? []), [HEADER.round]: round };
		if (message.status === STATUS.intended) headers[HEADER.intent] = message.intent;
		const body = message.source ? Buffer.alloc(0) : message.body;
		return this.courier.publish({ to: { queue: this.queues.checks, delayMs: delayOf(message, round) }, messageId: message._id, type: message.event, body, headers, appId: message.producer });
	}

	/** Publishes once to the exchange, which hands it to every bound group. Confirmed proves that at least one took it. */
	toAll(message: Message, attempt: number): Promise<PublishResult> {
		return this.#publish(message, { event: message.event }, attempt, message.waiting);
	}

	async #publish(message: Message, to: { event: string } | { queue: string }, attempt: number, groups: string[]): Promise<PublishResult> {
		const { _id: messageId, event: type, body, producer: appId } = message;
		try {
			return await this.courier.publish({ to, messageId, type, body, headers: this.#headers(message, attempt, groups), appId });
		} catch (error) {
			// It cannot be sent, now or later (headers too large): as good as without a queue, so that it ends as `dead` and is seen.
			return { outcome: "returned", reason: reasonOf(error) };
		}
	}

	#headers(message: Message, attempt: number, groups: string[]): Record<string, unknown> {
		const callback = message.strategy === "callback";
		return headersOf(message, attempt, groups, callback ? this.queues.callbackReceipts : this.queues.receipts, callback ? encodePlan(message) : undefined);
	}
}
