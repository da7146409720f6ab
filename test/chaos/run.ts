import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { ChannelModel } from "amqplib";
import { MongoClient } from "mongodb";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { delayQueueName } from "../../src/couriers/amqp/topology";
import { eventQueue, prefixOf, systemQueues } from "../../src/wire/names";
import { CHECK_DELAYS, Cluster, DATABASE, type Shape } from "./cluster";
import { monotonic, readJournals } from "./journal";
import type { Servers } from "./servers";
import { complaints, GROUPS, judge, type Verdict } from "./verdict";

/** One row of the matrix. */
export interface Fault {
  name: string;
  /** What is done, for the table. */
  title: string;
  shape?: Partial<Shape>;
  /** All emits are in order: a hundred of each key, but at least 20 keys. */
  ordered?: true;
  /**
   * Does it and heals it; the load goes on meanwhile. Resolves to the number of messages that have to be parked, if
   * any.
   */
  inject(run: Run): Promise<number | undefined>;
  /** What is not as it should be in this row, beside what is asked of each. */
  also?(run: Run, verdict: Verdict): string[];
}

export interface RunOptions {
  seed: number;
  /** At least so many emits. */
  messages: number;
  line: "0.15" | "0.14";
  /** Journals and logs. */
  folder: string;
  progress(text: string): void;
}

export interface Outcome {
  fault: string;
  title: string;
  seed: number;
  line: string;
  /** Of the code that ran. */
  commit: string;
  verdict: Verdict;
  complaints: string[];
  notes: string[];
  seconds: number;
}

const SHAPE = { rate: 1200, poisonEvery: 400, padBytes: 300 };
const PATTERNS = Object.entries(GROUPS).flatMap(([event, groups]) => groups.map(group => ({ group, event })));
/** Without any progress for so long the drain is given up. */
const STUCK_MS = 45_000;

/** A run under way, as a fault sees it. All chance comes from the seed. */
export class Run {
  readonly #random: ReturnType<typeof xoroshiro128plus>;
  /** What the fault has seen, for the table. */
  readonly notes: string[] = [];

  constructor(
    readonly cluster: Cluster,
    readonly servers: Servers,
    readonly namespace: string,
    readonly messages: number,
    seed: number,
    readonly progress: (text: string) => void
  ) {
    this.#random = xoroshiro128plus(seed);
  }

  /** Both ends included. */
  int(min: number, max: number): number {
    return uniformInt(this.#random, min, max);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.int(0, from.length - 1)] as T;
  }

  shuffled<T>(from: readonly T[]): T[] {
    const left = [...from];
    return Array.from(from, () => left.splice(this.int(0, left.length - 1), 1)[0] as T);
  }

  /** The faults' own time: an outage lasts so long. */
  sleep(ms: number): Promise<void> {
    return new Promise(resolve => setTimeout(resolve, ms));
  }

  /** Until this part of the load has been emitted, or it comes no further. */
  async load(part: number): Promise<void> {
    for (let seen = -1, still = 0; this.cluster.emits < part * this.messages && still < 40; ) {
      still = this.cluster.emits === seen ? still + 1 : 0;
      seen = this.cluster.emits;
      await this.sleep(250);
    }
  }

  /** Bounces a node: SIGKILL, a pause, and it is back. */
  async bounce(name: string, pauseMs = this.int(100, 1500)): Promise<void> {
    await this.cluster.kill(name);
    await this.sleep(pauseMs);
    await this.back(name);
  }

  /** Starts a node that has ended; a producer goes on emitting. */
  async back(name: string, env?: Record<string, string>): Promise<void> {
    await this.cluster.launch(name, env);
    if (Cluster.NAMES.producer.includes(name)) this.cluster.say(name, "load");
  }
}

/** Starts the seven nodes, loads them, injects the fault, heals, drains, and judges. */
export async function runFault(
  fault: Fault,
  servers: Servers,
  { seed, messages, line, folder, progress }: RunOptions
): Promise<Outcome> {
  const started = performance.now();
  const namespace = `${fault.name}-${seed}-${process.pid}-${Date.now().toString(36)}`;
  const place = path.join(folder, `${fault.name}-${seed}`);
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  const rate = fault.shape?.rate ?? SHAPE.rate;
  // A slower load is a smaller one, so that every run takes about as long.
  const wanted = Math.ceil((messages * Math.min(rate, SHAPE.rate)) / SHAPE.rate);
  const keys = fault.ordered && { orderKeys: Math.max(20, Math.round(wanted / 100)) };
  const cluster = new Cluster(namespace, place, servers, {
    ...SHAPE,
    cap: wanted * 1.5,
    ...fault.shape,
    ...keys,
    line
  });
  const run = new Run(cluster, servers, namespace, wanted, seed, text => progress(`${fault.name}: ${text}`));
  const queues = [
    ...PATTERNS.map(({ group, event }) => eventQueue(namespace, group, event)),
    ...Object.values(systemQueues(namespace)),
    ...CHECK_DELAYS.map(delay => delayQueueName(systemQueues(namespace).checks, delay))
  ];
  try {
    run.progress("starts");
    await cluster.start();
    for (const name of Cluster.NAMES.producer) if (cluster.isUp(name)) cluster.say(name, "load");
    await run.load(0.2);
    const injectedAt = monotonic();
    const parked = (await fault.inject(run)) ?? 0;
    const healedAt = monotonic();
    run.progress("healed");
    await run.load(1);
    await Promise.all(
      Cluster.NAMES.producer.map(async name => {
        cluster.say(name, "enough");
        return cluster.told(name, "emitted", 90_000);
      })
    );
    const drained = await drain(servers, namespace, queues, run, fault.shape?.stuckMs);
    const ending = await endingOf(servers, namespace);
    await cluster.end();
    const journal = readJournals(cluster.journals);
    const expected = { injectedAt, healedAt, parked };
    const verdict = judge(journal, ending, expected);
    const outcome: Outcome = {
      fault: fault.name,
      title: fault.title,
      seed,
      line,
      commit: commitOf(),
      verdict,
      complaints: [
        ...complaints(verdict, expected),
        ...cluster.accidents,
        ...drained,
        ...(fault.also?.(run, verdict) ?? [])
      ],
      notes: run.notes,
      seconds: Math.round((performance.now() - started) / 1000)
    };
    writeFileSync(
      path.join(place, "outcome.json"),
      JSON.stringify({ ...outcome, rejections: [...journal.rejections] }, null, 1)
    );
    return outcome;
  } finally {
    cluster.abandon();
    await removeAll(servers, namespace, queues).catch((error: Error) =>
      progress(`${fault.name}: cannot clean up: ${error.message}`)
    );
  }
}

export function commitOf(): string {
  return execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
}

/** Of an earlier command with the same seed, folder and load. */
export function earlierOutcome({ name }: Fault, folder: string, seed: number): Outcome | undefined {
  const file = path.join(folder, `${name}-${seed}`, "outcome.json");
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Outcome) : undefined;
}

/**
 * Until nothing is open in the store and nothing is in a queue. Returns what was left, if it stands still before that.
 */
async function drain(
  servers: Servers,
  namespace: string,
  queues: string[],
  run: Run,
  stuckMs = STUCK_MS
): Promise<string[]> {
  const client = new MongoClient(servers.mongo);
  const amqp = await servers.connect();
  try {
    const messages = client.db(DATABASE).collection(`${prefixOf(namespace)}.messages`);
    let last = "";
    let quiet = 0;
    for (let since = performance.now(); performance.now() - since < stuckMs; ) {
      const open = await messages.countDocuments({ dueAt: { $exists: true } });
      const depths = await depthsOf(amqp, queues);
      // What is in the hands of a node is in neither for a moment.
      if (open + depths.length === 0 && ++quiet >= 4) return [];
      if (open + depths.length) quiet = 0;
      const seen = `${open} open, ${depths.join(", ") || "queues empty"}`;
      if (seen !== last) since = performance.now();
      last = seen;
      run.progress(`drains: ${seen}`);
      await run.sleep(300);
    }
    const rows = await messages.find({ dueAt: { $exists: true } }, { limit: 3, projection: { body: 0 } }).toArray();
    return [`not drained, ${stuckMs / 1000} s without a change: ${last}; ${JSON.stringify(rows)}`];
  } finally {
    await client.close();
    await amqp.close().catch(() => undefined);
  }
}

async function depthsOf(amqp: ChannelModel, queues: string[]): Promise<string[]> {
  const found: string[] = [];
  for (const queue of queues) {
    const channel = await amqp.createChannel();
    channel.on("error", () => undefined);
    const state = await channel.checkQueue(queue).catch(() => undefined);
    if (state?.messageCount) found.push(`${state.messageCount} in ${queue.slice(queue.indexOf(".reliable") + 10)}`);
    if (state) await channel.close();
  }
  return found;
}

async function endingOf(
  servers: Servers,
  namespace: string
): Promise<{ statuses: Map<string, string>; effects: string[]; parked: number }> {
  const client = new MongoClient(servers.mongo);
  try {
    const db = client.db(DATABASE);
    const rows = await db
      .collection<{ _id: string; status: string }>(`${prefixOf(namespace)}.messages`)
      .find({}, { projection: { status: 1 } })
      .toArray();
    const effects = await db
      .collection<{ id: string }>(`${namespace}.effects`)
      .find({}, { projection: { id: 1 } })
      .toArray();
    return {
      statuses: new Map(rows.map(({ _id, status }) => [_id, status])),
      effects: effects.map(({ id }) => id),
      parked: await db.collection(`${prefixOf(namespace)}.parked`).countDocuments()
    };
  } finally {
    await client.close();
  }
}

async function removeAll(servers: Servers, namespace: string, queues: string[]): Promise<void> {
  const client = new MongoClient(servers.mongo);
  const amqp = await servers.connect();
  try {
    for (const { name } of await client.db(DATABASE).listCollections({}, { nameOnly: true }).toArray())
      if (name.startsWith(`${namespace}.`)) await client.db(DATABASE).dropCollection(name);
    const channel = await amqp.createChannel();
    for (const queue of queues) await channel.deleteQueue(queue);
    for (const exchange of ["events", "control"]) await channel.deleteExchange(`${prefixOf(namespace)}.${exchange}`);
  } finally {
    await client.close();
    await amqp.close().catch(() => undefined);
  }
}
