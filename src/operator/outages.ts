import type { Courier } from "../couriers/courier";
import type { Clock } from "../platform/clock";
import type { Store } from "../stores/store";

/** Of the lease: what it tells of Redis. */
interface Leasing {
  readonly reachable: boolean | undefined;
  on(event: "changed" | "unreachable", listener: () => void): unknown;
}

export interface OutageParts {
  courier: Courier;
  store: Store;
  leases: Leasing | undefined;
}

const NODE = "node ";

/** What does not answer, and since when, as this node has noticed it. */
export class Outages {
  readonly #since = new Map<string, Date>();

  constructor(
    { courier, store, leases }: OutageParts,
    private readonly clock: Clock
  ) {
    // By their news, since nobody may look at the overview when it happens.
    this.note("RabbitMQ", !courier.ready);
    courier.on("down", () => this.note("RabbitMQ", true));
    courier.on("ready", () => this.note("RabbitMQ", false));
    this.note("store", !store.ready);
    store.onUnavailable(() => this.note("store", true));
    store.onReady(() => this.note("store", false));
    leases?.on("unreachable", () => this.note("Redis", true));
    leases?.on("changed", () => this.note("Redis", leases.reachable === false));
  }

  /** What is well again has to be looked at, to be noticed: not all of it is told. */
  get open(): boolean {
    return this.#since.size > 0;
  }

  /** How it is now. Returns since when it does not answer; undefined = it does. */
  note(what: string, away: boolean): Date | undefined {
    if (!away) this.#since.delete(what);
    else if (!this.#since.has(what)) this.#since.set(what, new Date(this.clock.now()));
    return this.#since.get(what);
  }

  /** Nodes that do not answer, of all that are known. */
  silent(nodes: readonly { nodeID: string; answers: boolean | null }[]): { nodeID: string; since: Date }[] {
    const known = new Set(nodes.map(({ nodeID }) => `${NODE}${nodeID}`));
    // Moleculer has forgotten it: nobody would see it come back.
    for (const what of this.#since.keys()) if (what.startsWith(NODE) && !known.has(what)) this.#since.delete(what);
    return nodes.flatMap(({ nodeID, answers }) => {
      const since = this.note(`${NODE}${nodeID}`, answers === false);
      return since ? [{ nodeID, since }] : [];
    });
  }
}
