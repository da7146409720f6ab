import type { Courier, PublishResult } from "./couriers/courier";
import { headersOf } from "./message/envelope";
import { ANY_GROUP, type Message } from "./message/message";
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
		readonly registry: Registry,
		/** Queue that the receipts shall go to. */
		readonly receiptQueue: string
	) {}

	/**
	 * Publishes once per step, straight to the group's queue, so that each group has its own proof; ANY_GROUP goes to the exchange. A
	 * group without a known queue counts as returned.
	 */
	async toGroups(message: Message, steps: Step[]): Promise<PublishResult[]> {
		return Promise.all(
			steps.map(({ group, attempt }): Promise<PublishResult> => {
				if (group === ANY_GROUP) return this.toAll(message, attempt);
				const queue = this.registry.queueOf(group, message.event);
				if (!queue) return Promise.resolve({ outcome: "returned", reason: `no queue is known for group ${group}` });
				return this.#publish(message, { queue }, attempt, [group]);
			})
		);
	}

	/** Publishes once to the exchange, which hands it to every bound group. Confirmed proves that at least one took it. */
	toAll(message: Message, attempt: number): Promise<PublishResult> {
		return this.#publish(message, { event: message.event }, attempt, message.waiting);
	}

	async #publish(message: Message, to: { event: string } | { queue: string }, attempt: number, groups: string[]): Promise<PublishResult> {
		return this.courier.publish({
			to,
			messageId: message._id,
			type: message.event,
			body: message.body,
			headers: headersOf(message, attempt, groups, this.receiptQueue),
			appId: message.producer
		});
	}
}
