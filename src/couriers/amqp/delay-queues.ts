import { reasonOf } from "../../errors";
import type { Logger } from "../../platform/logger";
import type { Declarations } from "./declarations";
import { assertQueue, inspectQueue, onTemporaryChannel } from "./declare";
import { delayQueueDeclaration, delayStepMs, type QueueDeclaration } from "./topology";

interface DelayQueue {
  name: string;
  ready: Promise<boolean>;
  exists?: true;
}

/**
 * The delay queues known to exist: declared on first use, or before it (`prepare`), and again after each reconnect or
 * when one is found missing.
 */
export class DelayQueues {
  /** By target and TTL. */
  readonly #known = new Map<string, Map<number, DelayQueue>>();

  /** By target. */
  readonly #prepared = new Map<string, Set<number>>();

  constructor(
    private readonly declarations: Declarations,
    private readonly logger: Logger
  ) {}

  /** Name of a delay queue that exists, as far as this node knows. */
  known(target: string, delayMs: number): string | undefined {
    const delayQueue = this.#known.get(target)?.get(delayStepMs(delayMs));
    return delayQueue?.exists && delayQueue.name;
  }

  /** Name of the delay queue; undefined when its target does not exist. Rejects when it cannot be declared. */
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

  /** A publish has found that it is not there (any more): it is declared again at the next one. */
  missing(name: string): void {
    for (const ofTarget of this.#known.values())
      for (const [ttl, delayQueue] of ofTarget)
        if (delayQueue.name === name && ofTarget.delete(ttl)) this.declarations.tellMissing(name);
  }

  /** Looks for those that were deleted: nothing else would notice that what waited in them is gone. */
  async repair(): Promise<void> {
    const names = [...this.#known.values()].flatMap(ofTarget => [...ofTarget.values()].map(({ name }) => name));
    await this.#quietly(async () => {
      for (const name of names) {
        const model = this.declarations.connected(`look at queue ${name}`);
        if (!(await inspectQueue(model, name))) this.missing(name);
      }
    });
  }

  /**
   * Called after each connect: those that were known are declared before somebody needs one. Making a queue takes long
   * while a member of the cluster is away.
   */
  async again(): Promise<void> {
    // If it ends midway the next connect has them all.
    for (const [target, ofTarget] of this.#known) this.#prepare(target, ofTarget.keys());
    this.#known.clear();
    for (const [target, delays] of this.#prepared) await this.#provideAll(target, delays);
  }

  async prepare(target: string, delaysMs: number[]): Promise<void> {
    this.#prepare(target, delaysMs);
    await this.#provideAll(target, delaysMs);
  }

  #prepare(target: string, delaysMs: Iterable<number>): void {
    this.#prepared.set(target, new Set([...(this.#prepared.get(target) ?? []), ...delaysMs]));
  }

  #provideAll(target: string, delaysMs: Iterable<number>): Promise<void> {
    return this.#quietly(async () => {
      for (const delay of delaysMs) await this.provide(target, delay);
    });
  }

  /** Who needs one is told what is wrong. */
  async #quietly(work: () => Promise<void>): Promise<void> {
    await work().catch(thrown => this.logger.debug(`Delay queues: ${reasonOf(thrown)}`));
  }

  /** Forgets the delay queues of a target and returns their names. */
  forgetTarget(target: string): string[] {
    const names = [...(this.#known.get(target)?.values() ?? [])].map(({ name }) => name);
    this.#known.delete(target);
    this.#prepared.delete(target);
    return names;
  }

  /**
   * The target is declared before the delay queue: a message that expires while the target is missing moves only
   * minutes after the target is back.
   */
  async #assert(target: string, delayQueue: QueueDeclaration): Promise<boolean> {
    const { exchange } = this.declarations;
    const model = this.declarations.connected(`declare queue ${delayQueue.name}`);
    const queue = this.declarations.get(target);
    if (queue) await onTemporaryChannel(model, channel => assertQueue(channel, exchange, queue));
    else if (!(await inspectQueue(model, target))) return false;
    await onTemporaryChannel(model, channel => assertQueue(channel, exchange, delayQueue));
    return true;
  }
}
