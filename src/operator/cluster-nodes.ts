import { TIMED_OUT, withTimeout } from "../async/deadline";
import { reasonOf } from "../errors";
import { type HistoryRecord, MINUTE_MS } from "../message/history";
import type { Subscription } from "../message/records";
import type { Call } from "../platform/call";
import type { Clock } from "../platform/clock";
import type { Health } from "./health";

/** A node with the service `reliable`, as Moleculer's registry knows it. */
export interface KnownNode {
  nodeID: string;
  /** False = its heartbeats have ended, and it has not said goodbye. */
  available: boolean;
}

/** A node of the cluster, now. */
export interface NodeNow {
  nodeID: string;
  /**
   * `reliable`: has a store and was asked. `observer`: the node that answers, beside the cluster. `consumer`: has no store;
   * known by what it announces and counts. `unasked`: known in the same way, or by its lease, to an observer that no node
   * can be reached from, so what it is is not known.
   */
  kind: "reliable" | "observer" | "consumer" | "unasked";
  /** null = it is not asked. */
  answers: boolean | null;
  /** Why it does not answer. */
  reason?: string;
  lastSeenAt?: string;
  health?: Pick<
    Health,
    | "ok"
    | "failing"
    | "degraded"
    | "breakers"
    | "sweeping"
    | "lastSweep"
    | "inFlightPublishes"
    | "inFlightHandlers"
    | "reconnects"
  >;
}

export interface ClusterNodesParts {
  nodeID: string;
  /** Moleculer's registry. */
  registry: { nodes(): KnownNode[] };
  call: Call;
  /** This node does none of the cluster's work. */
  observer: boolean;
  clock: Clock;
}

/** For each node alone: one that is frozen holds up nobody for longer. */
const ANSWER_MS = 2000;

/** A consumer announces itself every ten minutes. */
const SILENT_MS = 25 * MINUTE_MS;

/** The nodes with the service `reliable`, each asked how it is. */
export class ClusterNodes {
  constructor(private readonly parts: ClusterNodesParts) {}

  /** Those that do not answer are rows too. `own`: this node's health, which is not asked again. */
  ask(own: Promise<Health>): Promise<NodeNow[]> {
    const { nodeID, registry } = this.parts;
    const others = registry.nodes().filter(node => node.nodeID !== nodeID);
    const kind = this.parts.observer ? "observer" : "reliable";
    return Promise.all([this.#row(nodeID, own, kind), ...others.map(node => this.#other(node))]);
  }

  async #other({ nodeID, available }: KnownNode): Promise<NodeNow> {
    const { call } = this.parts;
    if (!available) return silent(nodeID, "its heartbeats have ended");
    return this.#row(
      nodeID,
      call("reliable.health", {}, { nodeID, timeout: ANSWER_MS, retries: 0 }) as Promise<Health>
    );
  }

  async #row(nodeID: string, asked: Promise<Health>, kind: NodeNow["kind"] = "reliable"): Promise<NodeNow> {
    try {
      const health = await withTimeout(asked, ANSWER_MS, this.parts.clock);
      if (health === TIMED_OUT) return silent(nodeID, `no answer within ${ANSWER_MS} ms`, kind);
      const { ok, failing, degraded, breakers, sweeping, lastSweep, inFlightPublishes, inFlightHandlers, reconnects } =
        health;
      const shown = {
        ok,
        failing,
        degraded,
        breakers,
        sweeping,
        lastSweep,
        inFlightPublishes,
        inFlightHandlers,
        reconnects
      };
      return { nodeID, kind, answers: true, health: shown };
    } catch (error) {
      return silent(nodeID, reasonOf(error), kind);
    }
  }
}

function silent(nodeID: string, reason: string, kind: NodeNow["kind"] = "reliable"): NodeNow {
  return { nodeID, kind, answers: false, reason };
}

/** By what nodes that cannot be asked are known. */
export interface Told {
  subscriptions: readonly Subscription[];
  minutes: readonly HistoryRecord[];
  /** Of the leases, now. */
  holders?: readonly (string | null)[] | undefined;
}

/** Nodes that cannot be asked, by what they have told lately. */
export function consumersOf(
  { subscriptions, minutes, holders = [] }: Told,
  asked: readonly NodeNow[],
  now: Date
): NodeNow[] {
  const seen = new Map<string, Date>();
  const see = (nodeID: string, at: Date) => {
    const before = seen.get(nodeID);
    if (!before || before < at) seen.set(nodeID, at);
  };
  for (const { nodeID, seenAt } of subscriptions) see(nodeID, seenAt);
  for (const { nodeID, at } of minutes) see(nodeID, new Date(at.getTime() + MINUTE_MS));
  const sweeping = new Set(holders.flatMap(holder => (holder === null ? [] : nodeOfOwner(holder))));
  for (const nodeID of sweeping) see(nodeID, now);
  // Where another node was asked, so were all that have a store.
  const alone = asked.length > 0 && asked.every(({ kind }) => kind === "observer");
  const kindOf = (nodeID: string) => (alone || sweeping.has(nodeID) ? "unasked" : "consumer");
  const known = new Set(asked.map(({ nodeID }) => nodeID));
  return [...seen]
    .filter(([nodeID, at]) => !known.has(nodeID) && now.getTime() - at.getTime() < SILENT_MS)
    .map(([nodeID, at]) => ({ nodeID, kind: kindOf(nodeID), answers: null, lastSeenAt: at.toISOString() }));
}

/** Of who holds a lease. */
export function nodeOfOwner(owner: string): string {
  return owner.slice(0, owner.lastIndexOf("#"));
}
