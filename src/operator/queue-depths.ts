import { Cached } from "../async/cached";
import type { Courier, QueueDepth } from "../couriers/courier";
import type { Clock } from "../platform/clock";

/** For so long one look at a queue serves all who ask. */
export const SHARED_MS = 5000;

/** More than a namespace has groups and patterns: what is not asked for any more goes. */
const MAX_QUEUES = 10_000;

/** How many messages and consumers the queues have: one question to RabbitMQ per queue and 5 s, for any number of viewers. */
export class QueueDepths {
  readonly #queues = new Map<string, Cached<QueueDepth | null>>();

  constructor(
    private readonly courier: Courier,
    private readonly clock: Clock
  ) {}

  /** null = there is no such queue; undefined = RabbitMQ does not say. */
  async of(queue: string): Promise<QueueDepth | null | undefined> {
    return this.#cached(queue)
      .read()
      .catch(() => undefined);
  }

  #cached(queue: string): Cached<QueueDepth | null> {
    const known = this.#queues.get(queue);
    if (known) return known;
    if (this.#queues.size >= MAX_QUEUES) this.#queues.clear();
    const made = new Cached(async () => (await this.courier.depth(queue)) ?? null, SHARED_MS, this.clock);
    this.#queues.set(queue, made);
    return made;
  }
}
