import type { Logger } from "../../platform/logger";
import type { ConsumeSpec, Consumption, Delivery } from "../courier";
import type { MemoryBroker, MemoryConsumer, MemoryQueue, Queued } from "./broker";

interface ConsumptionHooks {
  /** Declares the queue if needed and returns it; undefined without a broker. */
  declared(): MemoryQueue | undefined;
  failed(error: Error): void;
  closed(consumption: MemoryConsumption): void;
}

/** One consumer in one queue; a new epoch whenever it has to start over. */
export class MemoryConsumption implements Consumption, MemoryConsumer {
  readonly prefetch: number;
  held = new Map<number, Queued>();
  epoch = 0;
  #broker: MemoryBroker | undefined;
  #queue: MemoryQueue | undefined;
  #tag = 0;
  /** Cancelled: nothing is delivered any more; held deliveries can still be acked. */
  readonly #end = new AbortController();

  constructor(
    private readonly spec: ConsumeSpec,
    private readonly logger: Logger,
    private readonly hooks: ConsumptionHooks
  ) {
    this.prefetch = spec.prefetch;
  }

  get queue(): string {
    return this.spec.queue.name;
  }

  get active(): boolean {
    return this.#queue !== undefined && !this.#end.signal.aborted;
  }

  attach(broker: MemoryBroker): void {
    if (this.#end.signal.aborted) return;
    this.#broker = broker;
    this.epoch++;
    this.#tag = 0;
    this.held = new Map();
    try {
      this.#queue = this.hooks.declared();
    } catch (thrown) {
      this.hooks.failed(thrown as Error);
    }
    if (!this.#queue) return;
    this.#queue.consumers.push(this);
    broker.schedule(this.#queue);
  }

  cancelled(): void {
    const broker = this.#broker as MemoryBroker;
    this.#queue = undefined;
    this.epoch++;
    setImmediate(() => {
      if (this.#broker === broker) this.attach(broker);
    });
  }

  detach(lost: boolean): void {
    const { held } = this;
    const broker = this.#broker;
    const queue = this.#queue;
    this.#broker = undefined;
    this.#queue = undefined;
    this.epoch++;
    if (broker && queue) broker.detach(queue, this, lost);
    held.clear();
  }

  async cancel(): Promise<void> {
    this.#end.abort();
    const index = this.#queue?.consumers.indexOf(this) ?? -1;
    if (index >= 0) this.#queue?.consumers.splice(index, 1);
  }

  async close(): Promise<void> {
    await this.cancel();
    this.hooks.closed(this);
    this.detach(false);
  }

  deliver(queued: Queued): void {
    const tag = ++this.#tag;
    this.held.set(tag, queued);
    try {
      this.spec.onDelivery(new MemoryDelivery(this, this.spec.queue.name, queued, tag));
    } catch (thrown) {
      this.logger.error(`The consumer of ${this.spec.queue.name} threw; the message stays unacked:`, thrown);
    }
  }

  ack(epoch: number, tag: number): boolean {
    if (epoch !== this.epoch || !this.#broker || !this.#queue) return false;
    this.#broker.ack(this, tag);
    this.#broker.schedule(this.#queue);
    return true;
  }

  nack(epoch: number, tag: number, requeue: boolean): boolean {
    if (!this.live(epoch) || !this.#broker || !this.#queue) return false;
    this.#broker.nack(this.#queue, this, tag, requeue);
    return true;
  }

  live(epoch: number): boolean {
    return epoch === this.epoch && this.#broker !== undefined;
  }

  ackUpTo(epoch: number, tag: number): boolean {
    if (epoch !== this.epoch || !this.#broker || !this.#queue) return false;
    for (const held of this.held.keys()) {
      if (held > tag) break;
      this.#broker.ack(this, held);
    }
    this.#broker.schedule(this.#queue);
    return true;
  }
}

class MemoryDelivery implements Delivery {
  readonly messageId: string;
  readonly type: string;
  readonly contentType: string;
  readonly timestamp: number;
  readonly appId: string | undefined;
  readonly headers: Record<string, unknown>;
  readonly body: Buffer;
  readonly redelivered: boolean;
  readonly epoch: number;
  readonly #consumption: MemoryConsumption;

  constructor(
    consumption: MemoryConsumption,
    readonly queue: string,
    queued: Queued,
    readonly tag: number
  ) {
    this.#consumption = consumption;
    this.epoch = consumption.epoch;
    ({
      messageId: this.messageId,
      type: this.type,
      contentType: this.contentType,
      timestamp: this.timestamp,
      appId: this.appId,
      body: this.body,
      redelivered: this.redelivered
    } = queued);
    this.headers = { ...queued.headers };
  }

  ack(): boolean {
    return this.#consumption.ack(this.epoch, this.tag);
  }

  get live(): boolean {
    return this.#consumption.live(this.epoch);
  }

  nack(requeue: boolean): boolean {
    return this.#consumption.nack(this.epoch, this.tag, requeue);
  }

  ackUpTo(): boolean {
    return this.#consumption.ackUpTo(this.epoch, this.tag);
  }
}
