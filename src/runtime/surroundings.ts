import type { ConsumerSpec } from "../consumer/consumer-parts";
import type { EmitOptions } from "../emit/emit-options";
import type { Strategy } from "../emit/strategy";
import { ReliableError } from "../errors";
import type { NodeOptions } from "../options/options";
import { type Clock, systemClock } from "../platform/clock";
import type { Transactions } from "../stores/documents/transactions";

/**
 * What a node runs on, and what stands between it and its services. That of a process is PROCESS; a test kit brings its
 * own, so that no option of a service has to say that it is tested.
 */
export interface Surroundings {
  readonly clock: Clock;
  /** What counts of what the node's services have given. */
  options(given: NodeOptions): NodeOptions;
  /** The name under which nodes of this process share an in-process courier, or an embedded store. */
  place(namespace: string): string;
  /** Of an embedded store. @default none: it refuses what needs them */
  transactions?(namespace: string): Transactions;
  /** The options of an emit, before anything is looked at. */
  emit(given: EmitOptions): EmitOptions;
  /** What keeps a node's emits. */
  strategy(own: Strategy): Strategy;
  /** What a consumer calls. */
  handler(spec: ConsumerSpec): ConsumerSpec["handle"];
}

/** Throws RELIABLE_BAD_OPTION where a node cannot get surroundings of its own (any more). */
export function assertFree(nodeID: string, has: Surroundings, started: boolean): void {
  if (has === PROCESS && !started) return;
  const why = started ? "it has started; do so before `broker.start()`" : "it has one already";
  throw new ReliableError("RELIABLE_BAD_OPTION", `Node '${nodeID}' cannot get a test kit: ${why}.`, {
    option: "brokers",
    nodeID
  });
}

export const PROCESS: Surroundings = {
  clock: systemClock,
  options: given => given,
  place: namespace => namespace,
  emit: given => given,
  strategy: own => own,
  handler: ({ handle }) => handle
};
