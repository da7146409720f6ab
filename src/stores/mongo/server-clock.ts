import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";

/** Due times and claims use the store's clock. Creation times, and so ages and pruning, use the nodes' clocks. */
const SKEW_MS = 2000;

/**
 * An answer tells the time late, by its way back and by this process's own delay, and never early. So of a few the
 * largest is the best; few, so that a clock which was set back is followed within some heartbeats.
 */
const KEPT = 5;

/** Of the answer to `hello` by a server that is not known: good until a heartbeat comes, or where none ever does. */
const ANY = "";

/**
 * The time of the servers that take writes: the primary, or the mongos in the client's list. Of several it is the
 * median, so it does not follow whichever spoke last. Between two answers this process's monotonic clock goes on, which
 * nobody sets.
 */
export class ServerClock {
  /** Per server: what its clock is ahead of this process's monotonic one. */
  readonly #ahead = new Map<string, number[]>();
  /** The median of them: each emit asks for the time, more than once. */
  #median: number | undefined;
  #heardAt = -Infinity;
  #toldServers = false;
  #toldNode = false;

  constructor(
    private readonly clock: Clock,
    private readonly logger: Logger
  ) {}

  now(): Date {
    const ahead = this.#median;
    return new Date(ahead === undefined ? this.clock.now() : this.clock.monotonic() + ahead);
  }

  /** ms since a server has told its time. */
  get silentMs(): number {
    return this.clock.monotonic() - this.#heardAt;
  }

  heard(localTime: unknown, address = ANY): void {
    if (!(localTime instanceof Date)) return;
    if (address !== ANY) this.#ahead.delete(ANY);
    else if (this.#ahead.size && !this.#ahead.has(ANY)) return;
    this.#heardAt = this.clock.monotonic();
    const last = this.#ahead.get(address) ?? [];
    this.#ahead.set(address, [...last, localTime.getTime() - this.#heardAt].slice(-KEPT));
    this.#reckon();
    this.#tellSkew();
  }

  /** The others do not take writes any more. */
  keep(addresses: Set<string>): void {
    for (const address of this.#ahead.keys())
      if (address !== ANY && !addresses.has(address) && this.#ahead.size > 1) this.#ahead.delete(address);
    this.#reckon();
  }

  #each(): number[] {
    return [...this.#ahead.values()].map(samples => Math.max(...samples)).sort((a, b) => a - b);
  }

  #reckon(): void {
    const all = this.#each();
    this.#median = all[Math.floor((all.length - 1) / 2)];
  }

  #tellSkew(): void {
    const all = this.#each();
    const between = (all.at(-1) as number) - (all[0] as number);
    if (between > SKEW_MS && !this.#toldServers)
      this.logger.warn(
        `The clocks of ${all.length} MongoDB servers (${[...this.#ahead.keys()].join(", ")}) differ by ${Math.round(between)} ms. Claims and due times go by the median; nodes that see other servers disagree by that: check NTP.`
      );
    this.#toldServers = between > SKEW_MS;
    const skew = Math.abs(this.now().getTime() - this.clock.now());
    if (skew > SKEW_MS && !this.#toldNode)
      this.logger.warn(
        `The clocks of this node and of MongoDB differ by ${Math.round(skew)} ms. Due times go by MongoDB's; creation times, ages and what is pruned by this node's: check NTP.`
      );
    this.#toldNode = skew > SKEW_MS;
  }
}
