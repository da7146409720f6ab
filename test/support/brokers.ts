import { randomBytes } from "node:crypto";
import { inspect } from "node:util";
import { connect } from "amqplib";
import { type BrokerOptions, Loggers, ServiceBroker, type ServiceSchema } from "moleculer";
import { MongoClient } from "mongodb";
import { inject, onTestFinished } from "vitest";
import { ReliableEmit, type ReliableOptions } from "../../src";
import { delayQueueName } from "../../src/couriers/amqp/topology";
import { OPTIONS } from "../../src/options/options";
import { pauseMarker, prefixOf, systemQueues } from "../../src/wire/names";

/** `real` servers or the `embedded` default: the project a spec runs in decides. */
export const backend = process.env["RELIABLE_TEST_BACKEND"] === "embedded" ? "embedded" : "real";

/** Quick enough that a test need not wait, far enough apart that nothing is confused. */
const QUICK: ReliableOptions = {
  sweepEveryMs: 100,
  refreshMs: 200,
  backoff: { initialMs: 20, maxMs: 100, jitter: "none" },
  leaseMs: 3000
};

export interface Cluster {
  namespace: string;
  /** The mixin with the backend's addresses, quick settings, and what the test adds. */
  mixin(options?: ReliableOptions): Partial<ServiceSchema>;
  options(options?: ReliableOptions): ReliableOptions;
  /** A broker of the cluster, not started; stopped at the end of the test. Its log lines are kept in `logs`. */
  broker(nodeID: string, options?: BrokerOptions): ServiceBroker;
  /** Creates the services and starts the broker. Nodes find each other through an in-process transporter. */
  node(nodeID: string, services: object[], options?: BrokerOptions): Promise<ServiceBroker>;
  logs: string[];
}

/** A namespace of its own for one test; everything in it is stopped and removed when the test ends. */
export function cluster(): Cluster {
  const namespace = `test-${randomBytes(5).toString("hex")}`;
  const brokers: ServiceBroker[] = [];
  const logs: string[] = [];
  const delays = new Set<number>(OPTIONS.checkDelaysMs.default);
  const options = (own: ReliableOptions = {}): ReliableOptions => {
    for (const delay of own.checkDelaysMs ?? []) delays.add(delay);
    const servers = backend === "real" ? inject("servers") : undefined;
    return {
      ...QUICK,
      ...(servers ? { amqp: servers.amqp, mongo: servers.mongo, redis: servers.redis, database: "reliable_test" } : {}),
      ...own
    };
  };
  onTestFinished(async () => {
    await Promise.all(brokers.map(broker => broker.stop().catch(() => undefined)));
    if (backend === "real") await removeNamespace(namespace, delays);
  }, 60_000);

  const broker = (nodeID: string, own: BrokerOptions = {}): ServiceBroker => {
    const created = new ServiceBroker({
      nodeID,
      namespace,
      transporter: "Fake",
      logger: new Capture(nodeID, logs) as never,
      registry: { stopDelay: 0 } as never,
      dependencyInterval: 15,
      // A second, else, until other nodes hear of a service.
      transit: { serviceChangedDebounceTime: 1 } as never,
      ...own
    });
    connectsAtOnce(created);
    brokers.push(created);
    return created;
  };
  return {
    namespace,
    options,
    logs,
    mixin: own => ReliableEmit(options(own)),
    broker,
    async node(nodeID, services, own) {
      const created = broker(nodeID, own);
      for (const service of services) created.createService(service as ServiceSchema);
      await created.start();
      return created;
    }
  };
}

/**
 * Moleculer waits half a second after it has connected, for what other nodes say of themselves: its Fake transporter
 * has brought all of that before a timer can fire. (`stopDelay` is the like at the end.)
 */
function connectsAtOnce({ transit }: ServiceBroker): void {
  const moleculers = transit as unknown as { Promise: PromiseConstructor } | undefined;
  if (!moleculers) return;
  class Quick<T> extends Promise<T> {
    delay(): Promise<T> {
      return this.then(value => new Quick(resolve => setTimeout(() => resolve(value), 1)));
    }
  }
  moleculers.Promise = Quick;
}

/** Keeps every log line, down to debug: tests look for what must be said, and for what must never be. */
export class Capture extends (Loggers.Base as unknown as new (options: object) => { level: string }) {
  constructor(
    readonly nodeID: string,
    readonly lines: string[]
  ) {
    super({ level: "debug" });
  }

  getLogHandler(bindings?: { mod?: string }) {
    return (type: string, args: unknown[]) =>
      void this.lines.push(`${this.nodeID} ${type} ${bindings?.mod ?? ""} ${args.map(text).join(" ")}`);
  }
}

/** As Moleculer's loggers would print it, and deeper: with an error's cause and whatever hangs on it. */
export function text(value: unknown): string {
  return typeof value === "string"
    ? value
    : inspect(value, { depth: 8, breakLength: Infinity, compact: true, maxStringLength: null, maxArrayLength: null });
}

/**
 * Waits until something holds, looking again at a short interval: for what has no event of its own. Fails with the last
 * look.
 */
export async function until<T>(
  look: () => T | Promise<T>,
  holds: (seen: T) => boolean = Boolean,
  timeoutMs = 30_000
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const seen = await look();
    if (holds(seen)) return seen;
    if (performance.now() > deadline)
      throw new Error(`Not so within ${timeoutMs} ms; last seen: ${JSON.stringify(seen)?.slice(0, 1000)}`);
    await new Promise(resolve => setTimeout(resolve, 15));
  }
}

async function removeNamespace(namespace: string, delays: Iterable<number>): Promise<void> {
  const { amqp, mongo } = inject("servers");
  const client = await new MongoClient(mongo).connect();
  const prefix = prefixOf(namespace);
  const system = systemQueues(namespace);
  const queues = new Set([...Object.values(system), ...[...delays].map(delay => delayQueueName(system.checks, delay))]);
  const all = await client.db("reliable_test").listCollections({}, { nameOnly: true }).toArray();
  const own = all.map(({ name }) => name).filter(name => name.startsWith(`${prefix}.`));
  for (const name of own)
    if (name.endsWith(".subscriptions"))
      for (const { _id, queue } of await client
        .db("reliable_test")
        .collection<{ _id: string; queue?: string }>(name)
        .find()
        .toArray()) {
        // A pause has no queue but its marker.
        const [group, pattern] =
          queue === undefined ? (JSON.parse(_id.slice("pause:".length)) as [string, string?]) : [];
        queues.add(queue ?? pauseMarker(namespace, group as string, pattern ?? undefined));
      }
  await Promise.all(own.map(name => client.db("reliable_test").dropCollection(name)));
  await client.close();
  const connection = await connect(amqp, { noDelay: true });
  connection.on("error", () => undefined);
  // A channel each: one that is closed for its queue must not keep the others.
  const remove = async (queue: string) => {
    const channel = await connection.createChannel();
    channel.on("error", () => undefined);
    await channel.deleteQueue(queue).catch(() => undefined);
    await channel.close().catch(() => undefined);
  };
  await Promise.all([...queues].map(remove));
  const channel = await connection.createChannel();
  channel.on("error", () => undefined);
  for (const exchange of ["events", "control"])
    await channel.deleteExchange(`${prefix}.${exchange}`).catch(() => undefined);
  await connection.close();
}
