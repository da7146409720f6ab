/** Texts of the page about groups. */
export const groups = {
  title: "Groups",
  caption: "Groups that consume events",
  none: "No group has subscribed yet. Start a service with a reliable consumer.",
  noneMatches: "No group has this in its name.",
  filter: "Name contains",
  columns: {
    group: "Group",
    state: "State",
    ready: "Waiting",
    consumers: "Consumers",
    handled: "Handled/min",
    failed: "Failed/min",
    dead: "Dead",
    seen: "Last seen",
    acts: "Acts"
  },
  rates:
    "Rates are the mean of the last five minutes. What waits and who consumes is RabbitMQ's own number, at most 5 s old.",
  queues: (n: number) => (n === 1 ? "1 queue" : `${n} queues`),
  queuesOf: (group: string) => `Queues of ${group}`,
  queueColumns: { pattern: "Event or pattern", queue: "Queue", ready: "Waiting", consumers: "Consumers", acts: "Acts" },
  notThere: "there is none",
  notTold: "not known",
  on: (nodeID: string) => `on ${nodeID}`,
  pause: "Pause",
  resume: "Resume",
  replay: "Replay",
  forget: "Forget",
  actOn: (act: string, group: string, pattern?: string) =>
    `${act} ${group}${pattern === undefined ? "" : ` ${pattern}`}`,
  pausedAll: "It is paused already.",
  pausedWhole: "The whole group is paused: resume that.",
  hasConsumers: (n: number) => `It has ${n} consumer${n === 1 ? "" : "s"}: stop its services first.`,
  hasProcess: "A process has it in its hands: stop its services first.",
  neverSeen: "It has no subscription (any more).",
  pausedBanner: (group: string, by: string, pattern?: string) =>
    `${group}${pattern === undefined ? "" : ` (${pattern})`} is paused by ${by} since`,
  messages: "Its messages",
  deadMessages: "Its dead messages",
  close: "Close",
  notKnown: (group: string) => `No group ${group} is known (any more).`,
  quiet: "Nothing was handled in the last hour.",
  hour: (group: string) => `${group}: last hour, per minute`,
  latency: (group: string) => `${group}: time of handlers, p95`,
  /** States. */
  dead: (n: string) => `${n} dead`,
  noConsumer: "no consumer: start it",
  noQueue: (patterns: string[]) => `no queue for ${patterns.slice(0, 2).join(", ")}${patterns.length > 2 ? ", …" : ""}`,
  breaker: (nodeID: string, since: string) => `breaker open on ${nodeID} since ${since}`,
  starting: "takes nothing at the moment",
  paused: (since: string, by: string, pattern?: string) =>
    `paused${pattern === undefined ? "" : ` for ${pattern}`} since ${since} by ${by}`,
  idle: "no consumer, nothing waits",
  unknown: "RabbitMQ does not say",
  well: "well",
  noSubscription: "not subscribed any more"
};
