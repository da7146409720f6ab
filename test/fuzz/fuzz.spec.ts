import { randomBytes } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { MongoClient } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import type { Health, ReliableOptions, SubscriptionRow } from "../../src";
import { prefixOf } from "../../src/wire/names";
import { readJournals } from "../chaos/journal";
import { until } from "../support/brokers";
import { startNode, type TestNode } from "../support/child";
import { rabbitmqctl } from "../support/rabbitmq";
import { urls } from "../support/servers";
import { CHECK_DELAYS, GROUPS, placesOf } from "./load";
import { Messages } from "./messages";
import { mutate, speaksForTheLiving } from "./mutations";
import type { FuzzNode, Memory } from "./node";
import { Random } from "./random";
import { type Forged, idOf, MARK, renamed, Samples, Stranger } from "./stranger";
import { judge, statusesOf } from "./verdict";

const SEED = Number(process.env["FUZZ_SEED"] ?? 20_261_125);
const SECONDS = Number(process.env["FUZZ_SECONDS"] ?? 120);
const AGAIN = `FUZZ_SEED=${SEED} FUZZ_SECONDS=${SECONDS} npm run test:fuzz`;

/** Each in half of the time. With signatures required nothing of a stranger counts, and he speaks for the living too. */
const RUNS: [what: string, signing: ReliableOptions | undefined][] = [
  ["without signatures", undefined],
  ["with signatures required", { signingKey: "a-key-that-no-stranger-has-a-key-that-no", signing: "require" }]
];
const EACH_S = SECONDS / RUNS.length;

/** That the load itself sends: see `Samples`. */
const KINDS = [
  ...["announcement", "check", "event", "event, again", "job", "receipt, callback", "receipt, outbox", "withdrawal"]
];
/** One that comes alone is a message of its own; on a busy machine hardly one does. */
const INTENTS = ["check, intent", "checks"];
const WARM_UP_S = 5;
/** Emits a second. */
const RATE = 60;
/** Of the stranger at once. */
const LANES = 4;
const PAUSE_MS = 25;
const MAX_GROWTH = 32 * 1024 * 1024;
/** What is not drained by then is stuck: rounds of checks and backoffs last some seconds. */
const DRAIN_MS = 90_000;

interface Told {
  health: Health;
  subscriptions: SubscriptionRow[];
  stats: Record<string, unknown>;
}

/** A vhost and a database for this run alone. */
async function places(): Promise<{ amqp: string; mongo: string; vhost: string; database: string }> {
  const vhost = `fuzz-${randomBytes(4).toString("hex")}`;
  await rabbitmqctl("add_vhost", vhost);
  onTestFinished(async () => void (await rabbitmqctl("delete_vhost", vhost)), 60_000);
  await rabbitmqctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*");
  await rabbitmqctl("trace_on", "-p", vhost);
  const url = new URL(urls().amqp);
  url.pathname = `/${vhost}`;
  return { amqp: url.href, mongo: urls().mongo, vhost, database: vhost };
}

/** Messages, held ones too, and consumers of every queue of the vhost. */
async function queuesIn(vhost: string): Promise<Map<string, { messages: number; consumers: number }>> {
  const listed = await rabbitmqctl(
    "-q",
    "list_queues",
    "-p",
    vhost,
    "--no-table-headers",
    "name",
    "messages",
    "consumers"
  );
  const rows = listed
    .trim()
    .split("\n")
    .map(line => line.split("\t"));
  return new Map(
    rows.map(([name = "", messages, consumers]) => [name, { messages: Number(messages), consumers: Number(consumers) }])
  );
}

/** Checks wait for their time, a stranger's too. */
const keeps = (name: string, { messages }: { messages: number }) => messages > 0 && !name.includes(".checks.delay.");

async function ask<T>(node: TestNode, what: string): Promise<T> {
  node.tell(what);
  return node.next<T>(what, 60_000);
}

const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;

it.each(RUNS)(
  `forged and mutated messages of every kind into every queue, seed ${SEED}, %s: nothing stops, nothing is lost`,
  {
    timeout: (SECONDS + 300) * 1000
  },
  async (_, signing) => {
    console.log(`fuzz: seed ${SEED}; again: ${AGAIN}`);
    const random = new Random(SEED);
    const { amqp, mongo, vhost, database } = await places();
    const namespace = vhost;
    const prefix = prefixOf(namespace);
    const where = placesOf(namespace);
    const client = await new MongoClient(mongo).connect();
    onTestFinished(async () => {
      await client.db(database).dropDatabase();
      await client.close();
    });
    const db = client.db(database);
    const folder = mkdtempSync(path.join(tmpdir(), "fuzz-"));
    const samples = new Samples(new Random(SEED));
    await samples.start(amqp);
    onTestFinished(() => samples.stop());

    const options: ReliableOptions = {
      amqp,
      mongo,
      redis: urls().redis,
      database,
      sweepEveryMs: 200,
      refreshMs: 300,
      backoff: { initialMs: 100, maxMs: 1000, jitter: "half" },
      maxAttempts: 10,
      checkDelaysMs: CHECK_DELAYS,
      receiptTimeoutMs: 10_000,
      leaseMs: 3000,
      ...signing
    };
    const journals = ["front", "back"].map(role => path.join(folder, `${role}.journal`));
    const start = async (role: FuzzNode["role"], more: ReliableOptions = {}) => {
      const node: FuzzNode = {
        role,
        namespace,
        transporter: urls().redis,
        journal: path.join(folder, `${role}.journal`),
        logs: folder,
        options: { ...options, ...more },
        rate: RATE
      };
      const started = await startNode("test/fuzz/node.ts", {
        env: { FUZZ_NODE: JSON.stringify(node) },
        execArgv: ["--expose-gc"]
      });
      await started.next("started");
      return started;
    };
    const back = await start("back");
    const front = await start("front", { service: false });
    const nodes = [front, back];
    await until(
      () => ask<Told>(back, "health"),
      ({ subscriptions }) => subscriptions.length === GROUPS.length,
      30_000
    );
    front.tell("load");
    await until(
      () => samples.kinds,
      kinds => KINDS.every(kind => kinds.includes(kind)) && INTENTS.some(kind => kinds.includes(kind)),
      60_000
    );
    await new Promise(resolve => setTimeout(resolve, WARM_UP_S * 1000));
    await rabbitmqctl("trace_off", "-p", vhost);
    await samples.stop();
    const active = await queuesIn(vhost);
    const before = await Promise.all(nodes.map(node => ask<Memory>(node, "memory")));

    const stranger = new Stranger(amqp);
    onTestFinished(() => stranger.close());
    const messages = new Messages(random, where);
    const forged = new Map<number, Forged>();
    const byKind = new Map<string, number>();
    let n = 0;
    const until_ = performance.now() + EACH_S * 1000;
    const next = (id: string): Forged => {
      const captured = random.once(2) ? random.pick(samples.of(random.pick(samples.kinds))) : undefined;
      // As it was: a copy that comes late and twice.
      if (captured && random.once(10)) return { ...captured, done: ["replayed"], headers: { ...captured.headers } };
      const message = captured ? renamed(captured, id) : messages.any(id);
      mutate(message, random, where);
      return message;
    };
    const lane = async () => {
      while (performance.now() < until_) {
        const mark = n++;
        const message = next(idOf(mark));
        const replayed = message.done[0] === "replayed";
        if (!signing && !replayed && speaksForTheLiving(message)) continue;
        message.headers = { [MARK]: mark, ...message.headers };
        for (let i = random.once(10) ? random.int(2, 4) : 1; i > 0; i--)
          if ((await stranger.send(message)) && !replayed) forged.set(mark, message);
        byKind.set(message.kind, (byKind.get(message.kind) ?? 0) + 1);
        await new Promise(resolve => setTimeout(resolve, PAUSE_MS));
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    // What comes after it all is handled too.
    await new Promise(resolve => setTimeout(resolve, 2000));
    front.tell("enough");
    await front.next("emitted");

    const { promised } = readJournals(journals);
    let left: string[] = [];
    await until(
      async () => {
        const statuses = await statusesOf(db, prefix);
        const open = [...promised.keys()].filter(id => statuses.get(id) !== "consumed");
        const kept = [...(await queuesIn(vhost))].filter(([name, queue]) => keeps(name, queue));
        left = [
          ...(open.length ? [`${open.length} promised messages, the first: ${open.slice(0, 5).join(", ")}`] : []),
          ...kept.map(([name, queue]) => `${queue.messages} in ${name}`)
        ];
        return left.length;
      },
      count => count === 0,
      DRAIN_MS
    ).catch(() => undefined);
    const after = await Promise.all(nodes.map(node => ask<Memory>(node, "memory")));
    const told = await Promise.all(nodes.map(node => ask<Told>(node, "health")));
    const verdict = await judge(db, prefix, journals, forged, where);
    console.log(
      `fuzz: ${verdict.promised} promised, ${stranger.sent} forged (${[...byKind].map(([kind, count]) => `${kind} ${count}`).join(", ")}; ${stranger.unwritable} could not be written, ${stranger.closed} closed his channel), ${verdict.parked} parked; heap and buffers ${nodes.map((_, i) => [before[i], after[i]].map(at => `${mib(at?.heap ?? 0)} + ${mib(at?.external ?? 0)}`).join(" → ")).join(", ")}; RSS ${after.map(({ rss }) => mib(rss)).join(", ")}; longest stall ${after.map(({ stall }) => `${stall} ms`).join(", ")}`
    );
    const failure = `${AGAIN}; journals and logs in ${folder}`;
    expect(left, failure).toEqual([]);
    const { lost, open, errors, vanished } = verdict;
    expect({ lost, open, errors, vanished }, failure).toEqual({ lost: [], open: [], errors: [], vanished: [] });
    expect(verdict.promised, failure).toBeGreaterThan(EACH_S);
    for (const { health } of told) expect(health, failure).toMatchObject({ ok: true, reconnects: 0 });
    // One that is begun anew, with another prefetch, is listed twice for a moment, or not at all.
    const deserted = async () => {
      const now = await queuesIn(vhost);
      return [...active].flatMap(([name, { consumers }]) => (consumers && !now.get(name)?.consumers ? name : []));
    };
    expect(await until(deserted, names => names.length === 0), failure).toEqual([]);
    const held = ({ heap, external }: Memory) => heap + external;
    const grown = nodes.map((_, i) => held(after[i] as Memory) - held(before[i] as Memory));
    for (const bytes of grown)
      expect(bytes, `${failure}; ${grown.map(mib).join(", ")}`).toBeLessThanOrEqual(MAX_GROWTH);
    // And they end as they should.
    for (const node of nodes) {
      node.tell("stop");
      expect(await node.exited, failure).toEqual({ code: 0, signal: null });
    }
  }
);
