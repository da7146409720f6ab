import type { ChannelModel } from "amqplib";
import { assertQueue, lookAtQueue, onThrowAwayChannel } from "./declare";
import { type ExchangeDeclaration, type QueueDeclaration, bucketDeclaration, bucketName } from "./topology";

export interface BucketsOptions {
	exchange: ExchangeDeclaration;
	/** A connection to declare on; throws when there is none. */
	model(what: string): ChannelModel;
	/** How the target was declared here, if it was. */
	declared(target: string): QueueDeclaration | undefined;
}

/** The delay buckets known to exist: declared on first use, and again after each reconnect or when one is found missing. */
export class Buckets {
	readonly #known = new Map<string, { target: string; ready: Promise<boolean>; exists?: true }>();

	constructor(private readonly options: BucketsOptions) {}

	/** Name of a bucket that is there, as far as this node knows. */
	known(target: string, delayMs: number): string | undefined {
		const name = bucketName(target, delayMs);
		return this.#known.get(name)?.exists && name;
	}

	/** Name of the bucket, or undefined when there is no such target. Rejects when it cannot be declared. */
	async provide(target: string, delayMs: number): Promise<string | undefined> {
		const bucket = bucketDeclaration(target, delayMs);
		let known = this.#known.get(bucket.name);
		if (!known) this.#known.set(bucket.name, (known = { target, ready: this.#assert(target, bucket) }));
		let exists = false;
		try {
			exists = await known.ready;
			if (exists) known.exists = true;
		} finally {
			if (!exists && this.#known.get(bucket.name) === known) this.#known.delete(bucket.name);
		}
		return exists ? bucket.name : undefined;
	}

	forget(bucket: string): void {
		this.#known.delete(bucket);
	}

	forgetAll(): void {
		this.#known.clear();
	}

	/** Forgets the buckets of a target and returns their names. */
	forgetTarget(target: string): string[] {
		const names = [...this.#known].filter(([, known]) => known.target === target).map(([name]) => name);
		for (const name of names) this.#known.delete(name);
		return names;
	}

	/** The target before the bucket: a message whose time comes while the target is missing moves only minutes after the target is back. */
	async #assert(target: string, bucket: QueueDeclaration): Promise<boolean> {
		const { exchange, declared } = this.options;
		const model = this.options.model(`declare queue ${bucket.name}`);
		const queue = declared(target);
		if (queue) await onThrowAwayChannel(model, channel => assertQueue(channel, exchange, queue));
		else if (!(await lookAtQueue(model, target))) return false;
		await onThrowAwayChannel(model, channel => assertQueue(channel, exchange, bucket));
		return true;
	}
}
