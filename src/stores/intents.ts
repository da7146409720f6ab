import { STATUS } from "../message/lifecycle";
import type { Failure, Message, Note } from "../message/message";
import { encodeMessage } from "./codec";
import type { Change, Doc, Filter } from "./collection";
import { OperatorStore } from "./operator";

const CLOSED = { open: true, dueAt: true, claim: true } as const;

/** What a barrier row stands for; the first of the two to be written wins, the key is the message's id. */
export const BARRIER = {
	/** Written in the business transaction: it happened. */
	committed: "committed",
	/** Written by the question: it has not happened and cannot any more. */
	withdrawn: "withdrawn"
} as const;

/** What a row that was known from receipts only lacks. */
const LEARNED = ["event", "body", "meta", "headers", "origin", "producer", "groups", "maxAttempts", "backoff", "source", "intent", "delays", "createdAt"] as const;

/** Messages before they are `pending`: intents, and those of strategy `callback`, which no emit has stored. */
export abstract class IntentStore extends OperatorStore {
	abstract insert(messages: Message[]): Promise<unknown[]>;
	abstract find(ids: string[]): Promise<Message[]>;

	happened(id: string, dueAt: Date, body?: Buffer): Promise<boolean> {
		return this.#leaveIntended(id, { $set: { status: STATUS.pending, dueAt, ...(body && { body }) }, $unset: { claim: true, asks: true, unreachableSince: true } });
	}

	withdraw(id: string, note: Note): Promise<boolean> {
		return this.#leaveIntended(id, { $set: { status: STATUS.withdrawn, doneAt: note.at }, $unset: CLOSED, $push: { notes: note } });
	}

	async lapse(id: string, failure: Failure, reason: string): Promise<boolean> {
		const [message] = await this.find([id]);
		if (!message) return false;
		// Whoever waits owes a receipt still; a human's retry gives them their budget.
		const failed = [...new Set([...message.waiting, ...message.failed])];
		return this.#leaveIntended(id, { $set: { status: STATUS.dead, deadAt: failure.at, reason, waiting: [], failed }, $unset: CLOSED, $push: { failures: failure } });
	}

	async adopt(rows: Message[]): Promise<Message[]> {
		if (!rows.length) return [];
		await this.insert(rows);
		const complete = rows.filter(row => !row.partial);
		if (complete.length) {
			await this.collections.messages.bulk(
				complete.map(row => {
					const doc = encodeMessage(row);
					const $set = Object.fromEntries(LEARNED.filter(field => doc[field] !== undefined).map(field => [field, doc[field]]));
					return { filter: { _id: row._id, partial: true }, change: { $set, $unset: { partial: true } } };
				})
			);
		}
		return this.find(rows.map(row => row._id));
	}

	async #leaveIntended(id: string, change: Change): Promise<boolean> {
		const filter: Filter = { _id: String(id), status: STATUS.intended };
		return (await this.collections.messages.update(filter, change)) === 1;
	}
}

export function barrierRow(id: string, state: keyof typeof BARRIER): Doc {
	return { _id: String(id), state, at: new Date() };
}
