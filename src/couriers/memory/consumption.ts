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
  #limit: number;
  /** What was delivered by then does not count against the limit, as with a consumer that RabbitMQ begins anew. */
  #limitedAt = 0;
  held = new Map<number, Queued>();
  epoch = 0;
  #broker: MemoryBroker | undefined;
  #queue: MemoryQueue | undefined;
  #tag = 0;
  suspended = false;
  /** Cancelled: nothing is delivered any more; held deliveries can still be acked. */
  readonly #end = new AbortController();

  constructor(
    private readonly spec: ConsumeSpec,
    private readonly logger: Logger,
    private readonly hooks: ConsumptionHooks
  ) {
    this.#limit = spec.limit ?? (spec.prefetch || Number.POSITIVE_INFINITY);
  }

  get absent(): boolean {
    return this.#limit === 0;
  }

  get full(): boolean {
    let older = 0;
    for (const tag of this.held.keys()) {
      if (tag > this.#limitedAt) break;
      older++;
    }
    return this.held.size - older >= this.#limit;
  }

  limit(deliveries: number): void {
    this.#limit = Math.min(deliveries, this.spec.prefetch || Number.POSITIVE_INFINITY);
    this.#limitedAt = this.#tag;
    if (this.#broker && this.#queue) this.#broker.schedule(this.#queue);
  }

  get queue(): string {
    return this.spec.queue.name;
  }

  get active(): boolean {
    return this.#queue !== undefined && !this.#end.signal.aborted && !this.suspended;
  }

  attach(broker: MemoryBroker): void {
    if (this.#end.signal.aborted) return;
    this.#broker = broker;
    this.epoch++;
    this.#tag = 0;
    this.#limitedAt = 0;
    this.held = new Map();
    try {
      this.#queue = this.hooks.declared();
    } catch (thrown) {
      this.hooks.failed(thrown as Error);
    }
    if (!this.#queue) return;
    this.suspended = (this.spec.marks ?? []).some(mark => broker.marks.has(mark));
    this.#take();
  }

  async suspend(): Promise<void> {
    if (this.#end.signal.aborted) return;
    this.suspended = true;
    this.#leave();
  }

  async resume(): Promise<void> {
    this.suspended = false;
    this.#take();
  }

  #take(): void {
    const queue = this.#queue;
    if (!queue || this.suspended || this.#end.signal.aborted || queue.consumers.includes(this)) return;
    queue.consumers.push(this);
    this.#broker?.schedule(queue);
  }

  #leave(): void {
    const index = this.#queue?.consumers.indexOf(this) ?? -1;
    if (index >= 0) this.#queue?.consumers.splice(index, 1);
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
    this.suspended = false;
    this.#leave();
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
