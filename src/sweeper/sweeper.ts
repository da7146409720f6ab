import { type Deadline, withTimeout } from "../async/deadline";
import { reasonOf } from "../errors";
import { BUCKETS } from "../message/message";
import type { Timer } from "../platform/clock";
import type { SweepCounts } from "./counts";
import type { LeaseMode, Leases } from "./lease";
import { Pruning, type PruningOptions } from "./pruning";
import { sweep } from "./sweep";
import type { SweepParts } from "./sweep-parts";
import type { Turns } from "./turns";

/** Without a lease every node sweeps, less often and not at the same time. */
const UNLOCKED_FACTOR = 3;

export interface SweeperOptions extends PruningOptions {
  /** Also where the loop does not run, a pass is made after a retry. False = others make it. */
  works: boolean;
  everyMs: number;
  partitions: number;
}

/**
 * The loop around `sweep`: it runs passes over the partitions whose lease this node holds. Without Redis it sweeps
 * everything, and slower if other nodes may do the same. It starts a pass at once when the broker is back and after a
 * human's retry.
 */
export class Sweeper {
  #timer: Timer | undefined;
  #pass: Promise<SweepCounts | undefined> | undefined;
  /** There is something to look for that the pass may have passed already. */
  #again = false;
  /** Aborted when the loop ends; undefined before it begins. */
  #loop: AbortController | undefined;
  readonly #pruning: Pruning;
  #failing = false;
  /** The pass for retried messages, and whether more were retried since it began. */
  #retried: { again: boolean } | undefined;
  #unsubscribe: (() => void)[] = [];
  readonly #deaf: () => void;
  lastPass: { at: Date; ms: number; counts: SweepCounts } | undefined;

  constructor(
    readonly parts: SweepParts,
    private readonly turns: Turns,
    /** undefined = no Redis is configured. */
    readonly leases: Leases | undefined,
    readonly options: SweeperOptions
  ) {
    this.#pruning = new Pruning(parts, options);
    this.#deaf = options.works
      ? parts.events.on("acted", act => act === "retried" && this.#afterRetry())
      : () => undefined;
  }

  /** Does not wait for Redis: the first pass comes when it has answered, or has not in time. */
  start(): void {
    this.#loop = new AbortController();
    const now = () => this.#schedule(0);
    const { courier, store, events } = this.parts;
    const told = events.on("toDo", look => look === "due" && now());
    this.#unsubscribe = [courier.on("ready", now), store.onReady(now), told];
    if (this.leases) this.#unsubscribe.push(this.leases.on("changed", now));
    void Promise.resolve(this.leases?.renew()).then(now);
  }

  /**
   * Ends the running pass at the end of its page and gives the leases back. A page that waits for the broker is given
   * up at the deadline: its claim runs out, and so does a lease that cannot be given back.
   */
  async stop(deadline: Deadline): Promise<void> {
    this.#loop?.abort();
    this.#timer?.stop();
    this.#deaf();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    const { clock } = this.parts;
    // A pass that fails reports that itself.
    if (this.#pass)
      await withTimeout(
        this.#pass.catch(() => undefined),
        deadline.left,
        clock
      );
    await this.#pruning.stop(deadline);
    if (this.leases) await withTimeout(this.leases.stop(), deadline.toClose, clock);
  }

  /** This node sweeps now: it is started and does not wait for another node's lease. */
  get sweeping(): boolean {
    return this.#looping && this.mode !== "standby";
  }

  get #looping(): boolean {
    return this.#loop?.signal.aborted === false;
  }

  get mode(): LeaseMode {
    return this.leases?.mode ?? "unlocked";
  }

  /** Resolves when no pass of the loop and no pruning is under way. */
  async idle(): Promise<void> {
    await this.#pass?.catch(() => undefined);
    await this.#pruning.idle();
  }

  /** One pass now, without asking for the lease: claims in the store keep two passes apart. */
  once(): Promise<SweepCounts> {
    return sweep(this.parts, { token: "by-hand", stillHeld: () => true });
  }

  /** A retried message is due now and need not wait for the next pass. One such pass at a time: a bulk act retries on. */
  #afterRetry(): void {
    if (this.#retried) this.#retried.again = true;
    else void this.#sweepRetried();
  }

  async #sweepRetried(): Promise<void> {
    const retried = { again: true };
    this.#retried = retried;
    try {
      while (retried.again) {
        retried.again = false;
        await this.once();
      }
    } catch (error) {
      this.parts.logger.debug(`Reliable: the sweep after a retry failed: ${reasonOf(error)}`);
    } finally {
      this.#retried = undefined;
    }
  }

  #schedule(ms: number): void {
    if (!this.#looping) return;
    this.#timer?.stop();
    this.#timer = this.parts.clock.after(ms, () => void this.#tick());
  }

  async #tick(): Promise<void> {
    if (this.#pass) {
      this.#again = true;
      return;
    }
    this.#again = false;
    this.#pass = this.#run();
    try {
      await this.#pass;
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) this.parts.events.emit("error", error, "sweeper");
      this.#failing = true;
      this.parts.logger.debug(`Reliable: a sweep failed and will be repeated: ${reasonOf(error)}`);
    } finally {
      this.#pass = undefined;
      this.#schedule(this.#again ? 0 : this.#pauseMs());
    }
  }

  #pauseMs(): number {
    const { everyMs } = this.options;
    const factor =
      this.mode === "unlocked" && this.parts.store.features.shared
        ? UNLOCKED_FACTOR * (0.5 + Math.random())
        : 0.9 + Math.random() * 0.2;
    return Math.round(everyMs * factor);
  }

  async #run(): Promise<SweepCounts | undefined> {
    const { mode } = this;
    if (mode === "standby" || !this.parts.store.ready) return undefined;
    const held = this.leases?.held() ?? new Map<number, string>();
    const { clock } = this.parts;
    const started = clock.monotonic();
    const all = mode === "unlocked" || held.size === this.options.partitions;
    const counts = await sweep(this.parts, {
      buckets: all ? undefined : bucketsOf([...held.keys()], this.options.partitions),
      token: mode === "unlocked" ? "unlocked" : [...held.values()].join("+"),
      stillHeld: () =>
        this.#looping &&
        (mode === "unlocked" || [...held.keys()].every(partition => this.leases?.held().has(partition)))
    });
    this.lastPass = { at: new Date(clock.now()), ms: Math.round(clock.monotonic() - started), counts };
    this.parts.metrics.count("sweeps");
    const prunes = () => this.mode === "unlocked" || this.leases?.held().has(0) === true;
    if (prunes()) {
      this.#pruning.begin(prunes);
      await this.turns.look();
    }
    return counts;
  }
}

/** Every bucket belongs to exactly one partition, for any number of partitions. */
export function bucketsOf(held: number[], partitions: number): number[] {
  return [...Array(BUCKETS).keys()].filter(bucket => held.includes(bucket % partitions));
}
