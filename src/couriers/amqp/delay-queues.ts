import type { ChannelModel } from "amqplib";
import { assertQueue, inspectQueue, onTemporaryChannel } from "./declare";
import { delayQueueDeclaration, delayStepMs, type ExchangeDeclaration, type QueueDeclaration } from "./topology";

export interface DelayQueuesOptions {
  exchange: ExchangeDeclaration;
  /** A connection to declare on; throws when there is none. */
  model(what: string): ChannelModel;
  /** How the target was declared here, if it was. */
  declared(target: string): QueueDeclaration | undefined;
}

interface Bucket {
  name: string;
  ready: Promise<boolean>;
  exists?: true;
}

/**
 * The delay buckets known to exist: declared on first use, and again after each reconnect or when one is found missing.
 */
export class DelayQueues {
  /** By target and TTL. */
  readonly #known = new Map<string, Map<number, Bucket>>();

  constructor(private readonly options: DelayQueuesOptions) {}

  /** Name of a bucket that is there, as far as this node knows. */
  known(target: string, delayMs: number): string | undefined {
    const bucket = this.#known.get(target)?.get(delayStepMs(delayMs));
    return bucket?.exists && bucket.name;
  }

  /** Name of the bucket, or undefined when there is no such target. Rejects when it cannot be declared. */
  async provide(target: string, delayMs: number): Promise<string | undefined> {
    const ttl = delayStepMs(delayMs);
    let ofTarget = this.#known.get(target);
    if (!ofTarget) this.#known.set(target, (ofTarget = new Map()));
    let known = ofTarget.get(ttl);
    if (!known) {
      const declaration = delayQueueDeclaration(target, delayMs);
      ofTarget.set(ttl, (known = { name: declaration.name, ready: this.#assert(target, declaration) }));
    }
    let exists = false;
    try {
      exists = await known.ready;
      if (exists) known.exists = true;
    } finally {
      if (!exists && ofTarget.get(ttl) === known) ofTarget.delete(ttl);
    }
    return exists ? known.name : undefined;
  }

  forget(name: string): void {
    for (const ofTarget of this.#known.values())
      for (const [ttl, bucket] of ofTarget) if (bucket.name === name) ofTarget.delete(ttl);
  }

  forgetAll(): void {
    this.#known.clear();
  }

  /** Forgets the buckets of a target and returns their names. */
  forgetTarget(target: string): string[] {
    const names = [...(this.#known.get(target)?.values() ?? [])].map(({ name }) => name);
    this.#known.delete(target);
    return names;
  }

  /**
   * The target before the bucket: a message whose time comes while the target is missing moves only minutes after the
   * target is back.
   */
  async #assert(target: string, bucket: QueueDeclaration): Promise<boolean> {
    const { exchange, declared } = this.options;
    const model = this.options.model(`declare queue ${bucket.name}`);
    const queue = declared(target);
    if (queue) await onTemporaryChannel(model, channel => assertQueue(channel, exchange, queue));
    else if (!(await inspectQueue(model, target))) return false;
    await onTemporaryChannel(model, channel => assertQueue(channel, exchange, bucket));
    return true;
  }
}
