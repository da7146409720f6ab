import { TIMED_OUT, withTimeout } from "../async/deadline";
import { TypedEmitter } from "../async/typed-emitter";
import { reasonOf } from "../errors";
import type { Clock, Timer } from "../platform/clock";
import type { Logger } from "../platform/logger";

/**
 * The right to sweep, one lease per partition in Redis. It only saves work: two holders of one lease are harmless,
 * because every message is claimed in the store (law 7). So it is built to fail towards sweeping:
 *
 *   free ──acquire──▶ held until (start of the request + ttl − margin), by our own monotonic clock
 *                      │ renewed every ttl/3; the clock counts from before the request, so a slow answer shortens it
 *                      ├─ renewal refused (expired, taken over)  → lost at once
 *                      ├─ Redis unreachable, or we were paused   → lost when our clock says so; Redis is not asked
 *                      └─ released on stop, only by its own owner
 *   Redis unreachable and nothing held → `unlocked`: the sweeper goes on, slower.
 *
 * The client may be the user's, with any options: by ioredis' own defaults a command waits for a dead Redis for more
 * than a minute, and with `maxRetriesPerRequest: null` for ever. So each command has a limit here. What is answered
 * after it counts for nothing: a lease that was taken so is given back, so that others need not wait for its end. While
 * such an answer is owed no other command is sent, or they would pile up in the client.
 *
 * Each acquisition by a new owner takes a higher fence token. The claim id contains it, so that a message's history
 * shows which lease term touched it. After a flush or failover Redis may repeat tokens; nothing depends on their order.
 */

/** What is needed of an ioredis client. */
export interface RedisClient {
  eval(script: string, numberOfKeys: number, ...args: (string | number)[]): Promise<unknown>;
}

// owner, ttl → {1, token, ttl} when it is ours now, {0, owner, remaining} when it is another's
const ACQUIRE = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, holder, redis.call('PTTL', KEYS[1])} end
if holder then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1, redis.call('GET', KEYS[2]) or '0', ARGV[2]}
end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, tostring(token), ARGV[2]}`;

const RELEASE = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`;

// The competing owners: a sorted set by the time they were last seen, on Redis' own clock. Returns how many are alive,
// and after how many ms the one that was not seen for longest stops counting.
const PRESENCE = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 4)
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {redis.call('ZCARD', KEYS[1]), oldest[2] + ARGV[2] - now}`;

const LEAVE = `return redis.call('ZREM', KEYS[1], ARGV[1])`;

const HOLDERS = `
local out = {}
for i, key in ipairs(KEYS) do out[i] = redis.call('GET', key) or '' end
return out`;

/** Longer than Redis takes for anything when it is well. Of a short lease a third, so that it can still be renewed. */
const ANSWER_MS = 1000;

/**
 * A node without the lease asks so often at least, so that it sweeps on soon after Redis has gone; and a round, of any
 * number of partitions, takes no longer: a Redis so slow counts as one that does not answer.
 */
const ROUND_MS = 3000;

interface Held {
  token: string;
  validUntil: number;
}

export interface LeaseOptions {
  prefix: string;
  owner: string;
  ttlMs: number;
  partitions: number;
  logger: Logger;
  clock: Clock;
}

/** The answer of ACQUIRE. */
type Acquired = [granted: number, tokenOrHolder: string, ms: number];

export type LeaseMode = "held" | "standby" | "unlocked";

/**
 * Emits `changed` whenever the set of held partitions or the mode changes, also when a lease was lost for a moment: what
 * a sweeper was told in it has to be looked for. `unreachable` with the error when Redis stops answering.
 */
export class Leases extends TypedEmitter<{ changed: []; unreachable: [error: unknown] }> {
  readonly #held = new Map<number, Held>();
  readonly #end = new AbortController();
  #timer: Timer | undefined;
  #reachable: boolean | undefined;
  #renewing: Promise<void> | undefined;
  /** Start of the last round in which everything was answered. */
  #completeAt = -Infinity;
  /** By when the running round must have all its answers. */
  #roundEnds = Infinity;
  /** A lease that had run out, by our clock, was ours again in this round. */
  #regained = false;
  /** Commands that were given up and have no answer yet. */
  #owed = 0;
  changes = 0;

  constructor(
    readonly redis: RedisClient,
    readonly options: LeaseOptions
  ) {
    super(options.logger);
  }

  /**
   * Gives everything back, with one answer's wait at most. A running round ends: what it has asked for without an answer
   * is released behind its request, on the same connection.
   */
  async stop(): Promise<void> {
    this.#end.abort();
    this.#roundEnds = Infinity;
    this.#timer?.stop();
    const mine = this.#renewing ? this.#partitions : [...this.#held.keys()];
    await Promise.all([this.#leave(), ...mine.map(partition => this.#release(partition))]);
  }

  /** Partitions this node may sweep now, with their fence tokens. */
  held(): Map<number, string> {
    const now = this.#now();
    return new Map(
      [...this.#held]
        .filter(([, lease]) => lease.validUntil > now)
        .map(([partition, lease]) => [partition, lease.token])
    );
  }

  /** undefined = not asked yet. */
  get reachable(): boolean | undefined {
    return this.#reachable;
  }

  get mode(): LeaseMode {
    if (this.held().size) return "held";
    return this.#reachable ? "standby" : "unlocked";
  }

  /** The holder of each partition. Rejects when Redis does not answer. */
  async holders(): Promise<(string | null)[]> {
    const keys = this.#partitions.map(partition => this.#keys(partition)[0] as string);
    const answers = await Promise.all(keys.map(key => this.#ask(HOLDERS, [key])));
    return answers.map(answer => (answer as string[])[0] || null);
  }

  /** One round: renews what is held, takes free partitions up to a fair share, gives back what is above it. */
  renew(): Promise<void> {
    this.#renewing ??= this.#round().finally(() => (this.#renewing = undefined));
    return this.#renewing;
  }

  async #round(): Promise<void> {
    this.#timer?.stop();
    const before = this.#describe();
    const started = this.#now();
    this.#roundEnds = started + ROUND_MS;
    this.#regained = false;
    let next = this.options.ttlMs / 3;
    try {
      next = Math.min(next, await this.#compete());
      this.#reachable = true;
      this.#completeAt = started;
    } catch (error) {
      if (this.#end.signal.aborted) return;
      if (this.#reachable !== false) {
        this.options.logger.warn(
          `Reliable: Redis does not answer, sweeping goes on without the lease, slower: ${reasonOf(error)}`
        );
        this.emit("unreachable", error);
      }
      this.#reachable = false;
      // One shard of a Redis cluster is down: nobody gets its partitions, and who goes on holding the others would not
      // sweep them.
      if (started - this.#completeAt >= this.options.ttlMs) this.#held.clear();
    } finally {
      this.#roundEnds = Infinity;
    }
    if (this.#end.signal.aborted) return;
    const now = this.#now();
    for (const [partition, lease] of this.#held) if (lease.validUntil <= now) this.#held.delete(partition);
    if (this.#describe() !== before || this.#regained) {
      this.changes++;
      this.emit("changed");
    }
    if (!this.#held.size) next = Math.min(next, ROUND_MS);
    const pauseMs = Math.max(20, next * (0.9 + Math.random() * 0.2));
    this.#timer = this.options.clock.after(pauseMs, () => void this.renew());
  }

  /** Returns after how many ms another try makes sense. */
  async #compete(): Promise<number> {
    const { partitions, owner, ttlMs } = this.options;
    const [alive, left] = (await this.#ask(PRESENCE, [this.#presence], [owner, ttlMs], () =>
      this.#leaveIfStopped()
    )) as [number, number];
    const share = Math.ceil(partitions / Math.max(1, Number(alive)));
    let soonest = Math.min(ttlMs, Math.max(1, Number(left)));
    for (const partition of this.#held.keys()) await this.#acquire(partition);
    // Nodes begin at different partitions, so that they do not all ask for the same one first.
    const offset = Math.floor(Math.random() * partitions);
    for (let i = 0; i < partitions && this.#held.size < share; i++) {
      const partition = (offset + i) % partitions;
      if (!this.#held.has(partition)) soonest = Math.min(soonest, await this.#acquire(partition));
    }
    for (const partition of [...this.#held.keys()].slice(share)) await this.#release(partition);
    return soonest;
  }

  /** Returns the ms until it may become free (more than 0), or the lease's ttl if it is ours. */
  async #acquire(partition: number): Promise<number> {
    const { owner, ttlMs } = this.options;
    if (this.#end.signal.aborted) return ttlMs;
    const asked = this.#now();
    const answer = await this.#ask(ACQUIRE, this.#keys(partition), [owner, ttlMs], late => {
      // One that renews what is still held is left alone.
      if (Number((late as Acquired)[0]) === 1 && !this.held().has(partition)) void this.#release(partition);
      this.#leaveIfStopped();
    });
    const [granted, token, left] = answer as Acquired;
    if (Number(granted) !== 1) {
      this.#held.delete(partition);
      return Math.max(1, Number(left));
    }
    this.#regained ||= this.#held.has(partition) && !this.held().has(partition);
    if (!this.#end.signal.aborted)
      this.#held.set(partition, { token: String(token), validUntil: asked + ttlMs - ttlMs / 10 });
    return ttlMs;
  }

  async #release(partition: number): Promise<void> {
    this.#held.delete(partition);
    try {
      await this.#ask(RELEASE, this.#keys(partition).slice(0, 1), [this.options.owner]);
    } catch (error) {
      this.options.logger.debug(
        `Reliable: lease ${partition} was not released, it expires by itself: ${reasonOf(error)}`
      );
    }
  }

  /** It leaves, so that the shares of the others grow at once. */
  async #leave(): Promise<void> {
    try {
      await this.#ask(LEAVE, [this.#presence], [this.options.owner]);
    } catch (error) {
      this.options.logger.debug(`Reliable: this node still counts as a sweeper for a while: ${reasonOf(error)}`);
    }
  }

  /** What the stop could not send, since an answer was owed. */
  #leaveIfStopped(): void {
    if (this.#end.signal.aborted) void this.#leave();
  }

  /** `late` gets an answer that is not waited for any more, before any other command is sent. */
  async #ask(
    script: string,
    keys: string[],
    args: (string | number)[] = [],
    late?: (answer: unknown) => void
  ): Promise<unknown> {
    if (this.#owed) throw new Error("it still owes the answer to an earlier command");
    const { clock, ttlMs } = this.options;
    const limitMs = Math.min(ANSWER_MS, ttlMs / 3, this.#roundEnds - this.#now());
    if (limitMs <= 0) throw new Error(`its answers took more than ${ROUND_MS} ms together`);
    const asked = this.redis.eval(script, keys.length, ...keys, ...args);
    const answer = await withTimeout(asked, limitMs, clock);
    if (answer !== TIMED_OUT) return answer;
    this.#owed++;
    asked.then(
      value => {
        this.#owed--;
        late?.(value);
      },
      () => void this.#owed--
    );
    throw new Error(`no answer within ${limitMs} ms`);
  }

  get #partitions(): number[] {
    return [...Array(this.options.partitions).keys()];
  }

  get #presence(): string {
    return `{${this.options.prefix}:sweepers}`;
  }

  #keys(partition: number): string[] {
    const tag = `{${this.options.prefix}:sweep:${partition}}`;
    return [`${tag}:lease`, `${tag}:fence`];
  }

  #describe(): string {
    return [...this.#held.keys()].sort().join() + (this.#reachable ? "" : "!");
  }

  #now(): number {
    return this.options.clock.monotonic();
  }
}
