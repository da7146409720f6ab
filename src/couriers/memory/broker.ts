import { Fifo } from "../../async/fifo";
import { topicMatcher } from "../../message/pattern";
import type { Clock, Timer } from "../../platform/clock";
import { DEFAULT_DELIVERY_LIMIT, type Listener, type QueueSpec } from "../courier";

/**
 * Deliveries in one turn of the event loop: enough for throughput, and few enough to leave room for timers and sockets.
 */
const TURN = 256;

/** A message in one queue. */
export interface Queued {
  readonly messageId: string;
  readonly type: string;
  readonly contentType: string;
  readonly timestamp: number;
  readonly appId: string | undefined;
  readonly headers: Record<string, unknown>;
  readonly body: Buffer;
  redelivered: boolean;
  /** How often a consumer lost it, like `x-delivery-count` at RabbitMQ. */
  losses: number;
}

export interface MemoryConsumer {
  /** It takes no more at the moment. */
  readonly full: boolean;
  /** It takes none at all: RabbitMQ knows of no such consumer. */
  readonly absent: boolean;
  /** Held unacked, by tag, in order of delivery. */
  held: Map<number, Queued>;
  deliver(queued: Queued): void;
  /** The queue was deleted while this consumer used it. */
  cancelled(): void;
}

export interface MemoryQueue {
  name: string;
  deliveryLimit: number;
  deadLetterTo: string | undefined;
  ready: Fifo<Queued>;
  /** In the order of their turns. */
  consumers: MemoryConsumer[];
  /** Messages that wait until their delay is over. */
  timers: Map<Timer, Queued>;
  scheduled: boolean;
}

/** The state of a RabbitMQ node: exchange, queues and their messages. One per namespace and process. */
export class MemoryBroker {
  readonly queues = new Map<string, MemoryQueue>();
  readonly marks = new Set<string>();
  /** Each with the key that it listens for. */
  readonly listeners = new Map<Listener, string>();
  /** Messages and bytes in queues, held by consumers, and in delays. */
  messages = 0;
  bytes = 0;
  readonly #bindings = new Map<string, { matches: (key: string) => boolean; queues: Set<string> }>();
  #routes = new Map<string, MemoryQueue[]>();
  /** Dead-lettered to a queue that does not exist (yet). */
  readonly #stranded = new Map<string, Queued[]>();

  constructor(private readonly clock: Clock) {}

  /** Returns the text of the mismatch when the queue exists with other arguments. */
  declare(spec: QueueSpec): string | undefined {
    const deliveryLimit = spec.deadLetterTo === undefined ? Infinity : (spec.deliveryLimit ?? DEFAULT_DELIVERY_LIMIT);
    let queue = this.queues.get(spec.name);
    if (queue && spec.foreign) return undefined;
    if (queue && queue.deadLetterTo !== spec.deadLetterTo)
      return `inequivalent arg 'x-dead-letter-routing-key': received '${spec.deadLetterTo}' but current is '${queue.deadLetterTo}'`;
    if (queue && queue.deliveryLimit !== deliveryLimit)
      return `inequivalent arg 'x-delivery-limit': received '${deliveryLimit}' but current is '${queue.deliveryLimit}'`;
    if (!queue) {
      queue = {
        name: spec.name,
        deliveryLimit,
        deadLetterTo: spec.deadLetterTo,
        ready: new Fifo(),
        consumers: [],
        timers: new Map(),
        scheduled: false
      };
      this.queues.set(spec.name, queue);
      for (const queued of this.#stranded.get(spec.name) ?? []) this.put(queue, queued);
      this.#stranded.delete(spec.name);
    }
    for (const pattern of spec.bindings ?? []) {
      let binding = this.#bindings.get(pattern);
      if (!binding) this.#bindings.set(pattern, (binding = { matches: topicMatcher(pattern), queues: new Set() }));
      binding.queues.add(spec.name);
    }
    this.#routes.clear();
    return undefined;
  }

  unbind(name: string, key: string): void {
    this.#bindings.get(key)?.queues.delete(name);
    this.#routes.clear();
  }

  /** Deletes the queue with its messages and returns its consumers. */
  remove(name: string): MemoryConsumer[] {
    const queue = this.queues.get(name);
    if (!queue) return [];
    this.queues.delete(name);
    this.#routes.clear();
    for (const [pattern, binding] of this.#bindings) {
      binding.queues.delete(name);
      if (binding.queues.size === 0) this.#bindings.delete(pattern);
    }
    for (const consumer of queue.consumers) for (const queued of consumer.held.values()) this.#leave(queued);
    this.purge(queue);
    return queue.consumers.splice(0);
  }

  /** What waits in it is gone: what is ready, and what is delayed. */
  purge(queue: MemoryQueue): void {
    for (const queued of queue.ready.drain()) this.#leave(queued);
    for (const [timer, queued] of queue.timers) {
      timer.stop();
      this.#leave(queued);
    }
    queue.timers.clear();
  }

  route(event: string): MemoryQueue[] {
    let queues = this.#routes.get(event);
    if (!queues) {
      const names = new Set<string>();
      for (const binding of this.#bindings.values())
        if (binding.matches(event)) for (const name of binding.queues) names.add(name);
      queues = [...names].map(name => this.queues.get(name)).filter(queue => queue !== undefined);
      // Event names come from outside and must not let it grow for ever.
      if (this.#routes.size >= 10_000) this.#routes.clear();
      this.#routes.set(event, queues);
    }
    return queues;
  }

  put(queue: MemoryQueue, queued: Queued): void {
    this.#enter(queued);
    queue.ready.push(queued);
    this.schedule(queue);
  }

  putLater(queue: MemoryQueue, queued: Queued, delayMs: number): void {
    this.#enter(queued);
    const timer = this.clock.after(delayMs, () => {
      queue.timers.delete(timer);
      queue.ready.push(queued);
      this.schedule(queue);
    });
    queue.timers.set(timer, queued);
  }

  ack(consumer: MemoryConsumer, tag: number): boolean {
    const queued = consumer.held.get(tag);
    if (!queued) return false;
    consumer.held.delete(tag);
    this.#leave(queued);
    return true;
  }

  /** Refused by its consumer, which the broker does not count as a loss. */
  nack(queue: MemoryQueue, consumer: MemoryConsumer, tag: number, requeue: boolean): void {
    const queued = consumer.held.get(tag);
    if (!queued) return;
    consumer.held.delete(tag);
    queued.redelivered = true;
    if (requeue) queue.ready.putBack([queued]);
    else if (queue.deadLetterTo !== undefined) this.#deadLetter(queue, queued, "rejected");
    else this.#leave(queued);
    this.schedule(queue);
  }

  /**
   * Removes the consumer and returns what it holds to the queue. `lost` counts against the delivery limit, a release
   * does not.
   */
  detach(queue: MemoryQueue, consumer: MemoryConsumer, lost: boolean): void {
    const index = queue.consumers.indexOf(consumer);
    if (index >= 0) queue.consumers.splice(index, 1);
    const back: Queued[] = [];
    for (const queued of consumer.held.values()) {
      queued.redelivered = true;
      if (lost && ++queued.losses > queue.deliveryLimit) this.#deadLetter(queue, queued);
      else back.push(queued);
    }
    consumer.held.clear();
    queue.ready.putBack(back);
    this.schedule(queue);
  }

  /** Delivers in a later turn of the event loop, like a broker. */
  schedule(queue: MemoryQueue): void {
    if (queue.scheduled || queue.consumers.length === 0 || queue.ready.length === 0) return;
    queue.scheduled = true;
    setImmediate(() => {
      queue.scheduled = false;
      this.#deliver(queue);
    });
  }

  destroy(): void {
    for (const name of [...this.queues.keys()]) this.remove(name);
  }

  /** Round robin among the consumers that have room. */
  #deliver(queue: MemoryQueue): void {
    const { consumers, ready } = queue;
    let full = 0;
    for (let sent = 0; sent < TURN && full < consumers.length; ) {
      const consumer = consumers.shift() as MemoryConsumer;
      consumers.push(consumer);
      if (consumer.full) {
        full++;
        continue;
      }
      const queued = ready.shift();
      if (!queued) return;
      full = 0;
      sent++;
      consumer.deliver(queued);
    }
    if (full < consumers.length) this.schedule(queue);
  }

  #deadLetter(queue: MemoryQueue, queued: Queued, reason = "delivery_limit"): void {
    const target = queue.deadLetterTo as string;
    const headers = {
      ...queued.headers,
      "x-delivery-count": queued.losses,
      "x-first-death-queue": queue.name,
      "x-first-death-reason": reason
    };
    const dead: Queued = { ...queued, headers, redelivered: false, losses: 0 };
    const to = this.queues.get(target);
    this.#leave(queued);
    if (to) {
      this.put(to, dead);
      return;
    }
    const stranded = this.#stranded.get(target);
    if (stranded) stranded.push(dead);
    else this.#stranded.set(target, [dead]);
  }

  #enter(queued: Queued): void {
    this.messages++;
    this.bytes += queued.body.length;
  }

  #leave(queued: Queued): void {
    this.messages--;
    this.bytes -= queued.body.length;
  }
}
