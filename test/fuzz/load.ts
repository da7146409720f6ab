import { delayQueueName } from "../../src/couriers/amqp/topology";
import { eventQueue, systemQueues } from "../../src/wire/names";

/** The running load beside which a stranger writes: who handles what, and how the ids look that must not get lost. */
export const EVENTS = ["order.placed", "order.paid", "stock.low"] as const;

export interface Group {
  name: string;
  pattern: string;
}

export const GROUPS: readonly Group[] = [
  { name: "stock", pattern: "order.placed" },
  { name: "mail", pattern: "order.placed" },
  { name: "ledger", pattern: "order.paid" },
  { name: "audit:order.**", pattern: "order.**" },
  { name: "buyer:stock.*", pattern: "stock.*" }
];

/** Of moleculer-amqp-queue; the namespace is one of the run, and so is the vhost. */
export const JOBS = "jobs.mail";
export const JOBS_GROUP = `queue/${JOBS}`;

/** Groups that owe a receipt. */
export const OWING: Readonly<Record<string, readonly string[]>> = {
  "order.placed": ["stock", "mail", "audit:order.**"],
  "order.paid": ["ledger", "audit:order.**"],
  "stock.low": ["buyer:stock.*"],
  [JOBS]: [JOBS_GROUP]
};

/** Begins the ids of the load. */
export const LIVING = "living-";
/** Begins the ids of the stranger. Of another length: no byte that is flipped makes one of the other. */
export const STRANGE = "strange-";

/** Short, so that rounds come within the run. */
export const CHECK_DELAYS = [2000, 4000, 8000, 16_000];

export interface Places {
  exchange: string;
  groups: string[];
  jobs: string;
  delays: string[];
  receipts: string;
  callbackReceipts: string;
  checks: string;
  announcements: string;
  parked: string;
}

export function placesOf(namespace: string): Places {
  const system = systemQueues(namespace);
  return {
    ...system,
    exchange: `${namespace}.reliable.events`,
    groups: GROUPS.map(({ name, pattern }) => eventQueue(namespace, name.split(":")[0] as string, pattern)),
    jobs: JOBS,
    // The later ones are made when a message first needs them.
    delays: CHECK_DELAYS.slice(0, 1).map(delay => delayQueueName(system.checks, delay))
  };
}

export const queuesOf = ({ exchange: _, groups, delays, ...others }: Places): string[] => [
  ...groups,
  ...delays,
  ...Object.values(others)
];
