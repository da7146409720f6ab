/** Texts of the page about servers and nodes. */
export const servers = {
  title: "Servers and nodes",
  servers: "Servers",
  serverColumns: { name: "Server", state: "Is", text: "In words", since: "Away since" },
  seenBy: (nodeID: string) => `As node ${nodeID} sees them.`,
  up: "up",
  away: "away",
  meaning: {
    RabbitMQ: "While it is away, what is emitted is stored and goes out later.",
    store: "While it is away, nothing new can be promised.",
    Redis: "While it is away, sweeping goes on without a lease."
  } as Readonly<Record<string, string>>,
  nodes: "Nodes",
  nodesCaption: "Nodes of the cluster",
  noNodes: "No node is known.",
  nodeColumns: {
    node: "Node",
    state: "Is",
    why: "In words",
    sweeping: "Sweeps",
    inFlight: "In hand",
    reconnects: "Reconnects",
    seen: "Last sweep, or last seen"
  },
  serves: "serves this page",
  well: "well",
  answers: "answers",
  notOk: "not ok",
  degraded: "works, with flaws",
  noAnswer: "no answer",
  notAsked: "not asked",
  notAskedWhy: {
    consumer: "It has no store, and is known by what it announces and counts.",
    reliable: "The node that serves this page has no way to it.",
    unasked: "The node that serves this page has no way to it: it was started without a transporter."
  } as Readonly<Record<string, string>>,
  kinds: {
    consumer: "consumer without a store",
    reliable: "with a store",
    observer: "looks on from beside the cluster",
    unasked: "nothing more is known of it"
  } as Readonly<Record<string, string>>,
  sweeping: {
    held: "yes",
    standby: "no: another node does",
    unlocked: "yes, without a lease",
    off: "off"
  } as Readonly<Record<string, string>>,
  inFlight: (handlers: string, publishes: string) => `${handlers} in handlers, ${publishes} being published`,
  nothing: "nothing",
  none: "–",
  leases: "Leases",
  leaseColumns: { holder: "Held by", partitions: "Partitions" },
  leasesCaption: "Who sweeps which partition",
  nobody: "nobody",
  noLeases: "Nobody tells of leases: the node that serves this page has no Redis, or it does not answer.",
  sweep: "Sweep now",
  sweepHint:
    "“Sweep now” is one pass over what is due, on the node that serves this page. It happens by itself every few seconds.",
  sweepHintObserver:
    "“Sweep now” asks the nodes that sweep for one pass over what is due. It happens by itself every few seconds."
};
