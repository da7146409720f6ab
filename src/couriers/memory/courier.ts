import { TypedEmitter } from "../../async/typed-emitter";
import { ReliableError, ReliableRetryableError, reasonOf } from "../../errors";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { processShared, sameVersion, VERSION } from "../../platform/process-shared";
import {
  type ConsumeSpec,
  type Consumption,
  type Courier,
  type CourierEvents,
  type CourierFeatures,
  type CourierStatus,
  MAX_FRAME_BYTES,
  notSent,
  type Publication,
  type PublishResult,
  type QueueDepth,
  type QueueSpec,
  type Sign
} from "../courier";
import { MemoryBroker, type MemoryQueue } from "./broker";
import { MemoryConsumption } from "./consumption";
import { MemoryControl } from "./control";

export interface MemoryCourierOptions {
  namespace: string;
  /** Signs what is published. */
  sign?: Sign | undefined;
  logger: Logger;
  clock: Clock;
  /** @default 1000000 Messages held per namespace; more are nacked, as by a full queue. */
  maxMessages?: number;
  /** @default 268435456 Bytes of payload held per namespace; more are nacked. */
  maxBytes?: number;
}

const brokers = () => processShared<{ version: string; broker: MemoryBroker; users: number }>("memory-brokers");

/**
 * An in-process broker that behaves like RabbitMQ. All couriers of a namespace share it; it is gone when the last of
 * them closes.
 */
export class MemoryCourier implements Courier {
  readonly features: CourierFeatures = { durable: false, shared: false };
  readonly #listeners: TypedEmitter<CourierEvents>;
  readonly #queues = new Map<string, QueueSpec>();
  readonly #consumptions = new Set<MemoryConsumption>();
  readonly control: MemoryControl;
  readonly #end = new AbortController();
  #broker: MemoryBroker | undefined;
  #since: Date | undefined;

  constructor(private readonly options: MemoryCourierOptions) {
    this.#listeners = new TypedEmitter(options.logger);
    this.control = new MemoryControl();
  }

  /** What all couriers of the namespace share; undefined while this one is not started. */
  get broker(): MemoryBroker | undefined {
    return this.#broker;
  }

  get ready(): boolean {
    return this.#broker !== undefined;
  }

  get writable(): boolean {
    return !this.#broker || this.#room(this.#broker);
  }

  async start(): Promise<void> {
    if (this.#broker || this.#end.signal.aborted) return;
    const { namespace } = this.options;
    let place = brokers().get(namespace);
    if (!place)
      brokers().set(namespace, (place = { version: VERSION, broker: new MemoryBroker(this.options.clock), users: 0 }));
    sameVersion(place.version, `The in-process courier of namespace '${namespace}'`);
    place.users++;
    this.#broker = place.broker;
    this.#since = new Date(this.options.clock.now());
    for (const spec of this.#queues.values()) {
      try {
        this.#assert(place.broker, spec);
      } catch (thrown) {
        this.#listeners.emit("error", thrown as Error);
      }
    }
    for (const consumption of this.#consumptions) consumption.attach(place.broker);
    this.control.attach(place.broker);
    this.#listeners.emit("ready");
  }

  async close(): Promise<void> {
    this.#end.abort();
    if (!this.#broker) return;
    this.control.detach();
    this.#broker = undefined;
    this.#since = undefined;
    for (const consumption of this.#consumptions) consumption.detach(true);
    this.#consumptions.clear();
    const { namespace } = this.options;
    const shared = brokers().get(namespace);
    if (shared && --shared.users === 0) {
      brokers().delete(namespace);
      shared.broker.destroy();
    }
    this.#listeners.emit("down");
  }

  /** All messages of the namespace are gone, also those in the hands of this courier's consumers, which go on. */
  clear(): void {
    const broker = this.#broker;
    if (!broker) return;
    for (const consumption of this.#consumptions) consumption.detach(false);
    for (const queue of broker.queues.values()) broker.purge(queue);
    for (const consumption of this.#consumptions) consumption.attach(broker);
  }

  on<E extends keyof CourierEvents>(event: E, listener: (...args: CourierEvents[E]) => void): () => void {
    return this.#listeners.on(event, listener);
  }

  async declare(spec: QueueSpec): Promise<boolean> {
    if (this.#broker) this.#assert(this.#broker, spec);
    this.#queues.set(spec.name, spec);
    return true;
  }

  async remove(name: string): Promise<void> {
    this.#queues.delete(name);
    const consumers = this.#connected(`delete queue ${name}`).remove(name);
    // As at RabbitMQ: an existing consumer declares the queue again and goes on.
    for (const consumer of consumers) consumer.cancelled();
  }

  async unbind(queue: string, key: string): Promise<void> {
    this.#queues.delete(queue);
    this.#connected(`unbind queue ${queue}`).unbind(queue, key);
  }

  async publish(given: Publication): Promise<PublishResult> {
    const publication = this.options.sign?.(given) ?? given;
    const result = this.#route(publication);
    // Never in the same turn: no caller may rely on an outcome that comes before `publish` has returned.
    await new Promise(resolve => setImmediate(resolve));
    return result;
  }

  async consume(spec: ConsumeSpec): Promise<Consumption> {
    await this.declare(spec.queue);
    const consumption = new MemoryConsumption(spec, this.options.logger, {
      declared: () => this.#broker && this.#assert(this.#broker, spec.queue),
      failed: error => this.#listeners.emit("error", error),
      closed: closed => void this.#consumptions.delete(closed)
    });
    this.#consumptions.add(consumption);
    if (this.#broker) consumption.attach(this.#broker);
    return consumption;
  }

  async depth(name: string): Promise<QueueDepth | undefined> {
    const queue = this.#connected(`look at queue ${name}`).queues.get(name);
    return queue && { ready: queue.ready.length, consumers: queue.consumers.filter(({ absent }) => !absent).length };
  }

  status(): CourierStatus {
    const connection = { connected: this.ready, address: "memory", since: this.#since };
    return {
      publish: connection,
      consume: { ...connection },
      blocked: false,
      blockedMs: 0,
      inFlight: 0,
      unconfirmedMs: 0,
      unansweredMs: 0,
      idle: [...this.#consumptions].filter(({ active, suspended }) => !active && !suspended).map(({ queue }) => queue),
      unmended: [],
      reconnects: 0
    };
  }

  #room(broker: MemoryBroker): boolean {
    const { maxMessages = 1_000_000, maxBytes = 256 * 1024 * 1024 } = this.options;
    return broker.messages < maxMessages && broker.bytes < maxBytes;
  }

  #connected(what: string): MemoryBroker {
    if (!this.#broker)
      throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", `Cannot ${what}: the courier is not started.`);
    return this.#broker;
  }

  #assert(broker: MemoryBroker, spec: QueueSpec): MemoryQueue {
    const said = broker.declare(spec);
    if (said) {
      const text = `The queue ${spec.name} exists with other arguments: ${said}. To migrate: drain it, delete it and restart; or rename the group.`;
      throw new ReliableError("RELIABLE_QUEUE_MISMATCH", text, { queue: spec.name, said });
    }
    return broker.queues.get(spec.name) as MemoryQueue;
  }

  #route(publication: Publication): PublishResult {
    const { to, messageId, type, appId, contentType = "application/json", headers } = publication;
    const broker = this.#broker;
    if (!broker) return notSent("courier is not started or closed");
    let ownHeaders: Record<string, unknown>;
    let headerBytes: number;
    try {
      ownHeaders = structuredClone(headers);
      headerBytes = Buffer.byteLength(JSON.stringify(headers));
    } catch (thrown) {
      return { outcome: "refused", reason: `cannot be encoded: ${reasonOf(thrown)}` };
    }
    // The same limit as at RabbitMQ, or a message would pass in development and fail in production.
    if (headerBytes > MAX_FRAME_BYTES)
      throw new ReliableError(
        "RELIABLE_HEADERS_TOO_LARGE",
        `The headers of ${type} (${messageId}) take more than 64 KiB.`,
        { id: messageId, type }
      );
    if ("control" in to) return this.control.tell(to.control, publication, ownHeaders);
    const direct = "queue" in to ? broker.queues.get(to.queue) : undefined;
    const queues = "event" in to ? broker.route(to.event) : direct ? [direct] : [];
    if (queues.length === 0) return { outcome: "returned", reason: "312 NO_ROUTE: no queue took it", code: "NO_ROUTE" };
    if (!this.#room(broker)) return { outcome: "nacked", reason: "too many messages held in memory" };
    // Copied once: later changes by the producer must not reach the consumers.
    const queued = {
      messageId,
      type,
      contentType,
      timestamp: Math.floor(this.options.clock.now() / 1000),
      appId,
      headers: ownHeaders,
      body: Buffer.from(publication.body),
      redelivered: false,
      losses: 0
    };
    const delayMs = "queue" in to ? (to.delayMs ?? 0) : 0;
    for (const queue of queues) {
      if (delayMs > 0) broker.putLater(queue, { ...queued }, delayMs);
      else broker.put(queue, { ...queued });
    }
    return { outcome: "confirmed" };
  }
}
