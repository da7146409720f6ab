import type { Context, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { EmitOptions, Health, Overview, ReliableOptions, SubscriptionRow } from "../../src";
import { type Cluster, cluster, until } from "../support/brokers";
import { foreignGroup, rowOf, runtimeOf, sendReceipt, storeOf } from "../support/runtime";
import {
  consumer,
  type Emit,
  emitter,
  emitterOf,
  errorOf,
  oneNode,
  reaches,
  story,
  subscribed
} from "../support/services";

/** Opens at five, and looks again soon. */
const QUICK = { failures: 5, pauseMs: 30, maxPauseMs: 100 };

interface Told {
  group: string;
  pattern: string;
  node: string;
  state: "open" | "closed";
  since: Date;
  error: string;
}

/** What a handler depends on. */
class Dependency {
  down = true;
  calls = 0;
  readonly handled = new Set<number>();
  /** Of these each attempt fails. */
  readonly poison = new Set<number>();

  readonly handler = (ctx: Context<never>): void => {
    const { n } = ctx.params as { n: number };
    this.calls++;
    if (this.down) throw new Error("the payment service does not answer");
    if (this.poison.has(n)) throw new Error(`${n} is poison`);
    this.handled.add(n);
  };
}

const watcher = (told: Told[]) => ({
  name: "watcher",
  events: { "$reliable.breaker": (ctx: Context<Told>) => void told.push(ctx.params) }
});

async function mail(made: Cluster, dependency: Dependency, options: ReliableOptions = {}, more: object[] = []) {
  const told: Told[] = [];
  const own = { breaker: QUICK, ...options };
  const services = [consumer(made.mixin(own), "mail", "order.created", dependency.handler), watcher(told), ...more];
  const { broker, emit } = await oneNode(made, services);
  await subscribed(broker, 1 + more.length);
  return { broker, emit, told };
}

async function emitMany(emit: Emit, count: number, options?: EmitOptions, from = 0): Promise<string[]> {
  const results = await Promise.all(
    Array.from({ length: count }, (_, i) => emit("order.created", { n: from + i }, options))
  );
  return results.map(({ id }) => id);
}

async function countOf(broker: ServiceBroker, status: "dead" | "consumed" | "pending" | "published"): Promise<number> {
  return (await storeOf(broker).messages.stats()).byStatus[status];
}

const isOpen = (broker: ServiceBroker) => [...runtimeOf(broker).consumers].some(({ breaker }) => breaker?.opened);

it("an outage of what a handler depends on kills nothing, and is told once", async () => {
  const made = cluster();
  const dependency = new Dependency();
  const { broker, emit, told } = await mail(made, dependency);
  await emitMany(emit, 300);
  await until(() => told.length > 0);
  const before = dependency.calls;
  expect(before).toBeLessThanOrEqual(60);
  const health = await broker.call<Health, object>("reliable.health", {});
  expect(health.failing).toEqual([]);
  expect(health.degraded).toEqual([
    expect.stringMatching(
      /^breaker open: group mail tries 'order.created' one at a time since .*: Error: the payment service does not answer$/
    )
  ]);
  // One at a time, again and again: far more often than there are attempts.
  await until(() => dependency.calls >= before + 10);
  expect(await countOf(broker, "dead")).toBe(0);
  dependency.down = false;
  await until(
    () => countOf(broker, "consumed"),
    count => count === 300
  );
  expect(dependency.handled.size).toBe(300);
  await until(() => told.length > 1);
  expect(told.map(({ state }) => state)).toEqual(["open", "closed"]);
  expect(told[0]).toEqual({
    ...{ group: "mail", pattern: "order.created", node: "node-1", state: "open", since: expect.any(Date) },
    error: "Error: the payment service does not answer"
  });
  expect(made.logs.filter(line => line.includes("breaker of group mail"))).toEqual([
    expect.stringMatching(/ warn .*is open: 5 or more different messages have failed/),
    expect.stringMatching(/ info .*is closed again, after \d+ s\./)
  ]);
});

it("a group whose breaker is open is not forgotten, and is not said to have no consumer, without a store too", async () => {
  const made = cluster();
  const dependency = new Dependency();
  const slow = { breaker: { ...QUICK, pauseMs: 30_000, maxPauseMs: 30_000 } };
  const { broker, emit } = await mail(made, dependency, slow);
  const away = await made.node("node-2", [
    consumer(made.mixin({ ...slow, service: false }), "stock", "order.created", dependency.handler)
  ]);
  await subscribed(broker, 2);
  await emitMany(emit, 30);
  const [here, there] = [broker, away].map(node => () => isOpen(node));
  await until(() => here?.() && there?.());
  await until(
    () => broker.call<SubscriptionRow[], object>("reliable.subscriptions", {}),
    rows => rows.every(({ consumers, ready }) => consumers === 0 && (ready ?? 0) > 0)
  );
  for (const group of ["mail", "stock"])
    expect(await errorOf(broker.call("reliable.forget", { group, note: "it looks dead" }))).toMatchObject({
      type: "RELIABLE_GROUP_ACTIVE",
      message: expect.stringContaining("a process that lives"),
      data: { group, consumers: 0 }
    });
  const { level, sentence, also } = await until(
    () => broker.call<Overview, object>("reliable.overview", {}),
    // On a busy machine a server may be slow to answer for a moment, and that is said first.
    ({ groups, sentence }) =>
      groups.every(({ ready, consumers }) => (ready ?? 0) > 0 && consumers === 0) && sentence.startsWith("What group")
  );
  expect([level, sentence]).toEqual(["watch", expect.stringMatching(/^What group mail needs is away since /)]);
  expect(also).toEqual([
    expect.stringMatching(/^Group stock runs and takes nothing at the moment: its breaker is open/)
  ]);
  // Nothing was let go of: it is all handled when what it needs is back.
  expect(await countOf(broker, "dead")).toBe(0);
  await away.stop();
  expect(await broker.call("reliable.forget", { group: "stock", note: "gone", force: true })).toMatchObject({
    group: "stock",
    living: []
  });
});

it("the story of a message that met it says what did not count", async () => {
  const dependency = new Dependency();
  const { broker, emit, told } = await mail(cluster(), dependency, { maxAttempts: 1 });
  const ids = await emitMany(emit, 20);
  await until(() => told.length > 0);
  dependency.down = false;
  for (const id of ids) await reaches(broker, id, "consumed");
  const texts = (await Promise.all(ids.map(id => story(broker, id)))).flatMap(({ timeline }) =>
    timeline.map(({ what }) => what)
  );
  expect(texts).toContainEqual(
    expect.stringMatching(/^attempt \d+ failed in mail on node node-1 \(handler, does not count\): Error: the payment/)
  );
});

it("exactly the poison is dead, after as many attempts as it has", async () => {
  const dependency = new Dependency();
  for (const n of [7, 77, 177]) dependency.poison.add(n);
  dependency.down = false;
  const { broker, emit, told } = await mail(cluster(), dependency);
  const ids = await emitMany(emit, 200);
  await until(
    () => countOf(broker, "dead"),
    count => count === 3
  );
  await until(
    () => countOf(broker, "consumed"),
    count => count === 197
  );
  for (const n of dependency.poison) expect((await rowOf(broker, ids[n] as string)).spent).toEqual({ mail: 3 });
  expect(told).toEqual([]);
});

it("poison that meets an outage is dead after it, and nothing else is", async () => {
  const dependency = new Dependency();
  for (const n of [3, 50]) dependency.poison.add(n);
  const { broker, emit, told } = await mail(cluster(), dependency);
  const ids = await emitMany(emit, 100);
  await until(() => told.length > 0);
  dependency.down = false;
  await until(
    () => countOf(broker, "consumed"),
    count => count === 98
  );
  // The poison may be what opens it again, where it is all that is left.
  await emitMany(emit, 20, {}, 1000);
  for (const n of dependency.poison) await reaches(broker, ids[n] as string, "dead");
  const { rows } = await storeOf(broker).messages.list({ status: "dead" }, 10);
  expect(rows.map(({ reason }) => reason)).toEqual(
    [1, 2].map(() => expect.stringMatching(/handler in group mail at attempt \d+: \d+ is poison/))
  );
});

it("fewer different ones than open it are dead after their tries", async () => {
  const dependency = new Dependency();
  const { broker, emit, told } = await mail(cluster(), dependency);
  const ids = await emitMany(emit, 4);
  for (const id of ids) expect((await reaches(broker, id, "dead")).attempts).toBe(3);
  expect(dependency.calls).toBe(12);
  expect(told).toEqual([]);
});

it("what a quiet group fails is held for patienceMs, if that is wanted", async () => {
  const dependency = new Dependency();
  const { broker, emit } = await mail(cluster(), dependency, { breaker: { ...QUICK, patienceMs: 700 } });
  const [id] = (await emitMany(emit, 1)) as [string];
  await until(() => dependency.calls > 3);
  expect((await rowOf(broker, id)).status).not.toBe("dead");
  await reaches(broker, id, "dead");
  const { failures, spent, base } = await rowOf(broker, id);
  expect((spent.mail as number) - (base.mail as number)).toBe(3);
  expect(failures.filter(({ excused }) => !excused)).toHaveLength(3);
});

it("with breaker: false an outage kills what meets it", async () => {
  const dependency = new Dependency();
  const { broker, emit, told } = await mail(cluster(), dependency, { breaker: false });
  await emitMany(emit, 20);
  await until(
    () => countOf(broker, "dead"),
    count => count === 20
  );
  expect(dependency.calls).toBe(60);
  expect(told).toEqual([]);
});

it("what no further attempt can help is dead at once, and does not open it", async () => {
  const made = cluster();
  const told: Told[] = [];
  const refuse = () => Promise.reject(Object.assign(new Error("never"), { retryable: false }));
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin({ breaker: QUICK }), "mail", "order.created", refuse),
    consumer(made.mixin({ breaker: QUICK }), "stock", "order.created", () => undefined, { params: { x: "string" } }),
    watcher(told)
  ]);
  await subscribed(broker, 2);
  await emitMany(emit, 20);
  await until(
    () => countOf(broker, "dead"),
    count => count === 20
  );
  await until(
    async () =>
      (await storeOf(broker).messages.list({ status: "dead", group: "stock", groupIn: ["failed"] }, 1)).total === 20
  );
  expect(told).toEqual([]);
});

it("other groups, and other nodes of the group, go on", async () => {
  const made = cluster();
  const [sick, well] = [new Dependency(), new Dependency()];
  well.down = false;
  const others = new Set<number>();
  const stock = (ctx: Context<never>) => void others.add((ctx.params as { n: number }).n);
  const first = await mail(made, sick, {}, [consumer(made.mixin(), "stock", "order.created", stock)]);
  const count = 100;
  if (process.env["RELIABLE_TEST_BACKEND"] !== "embedded")
    await made.node("node-2", [consumer(made.mixin({ breaker: QUICK }), "mail", "order.created", well.handler)]);
  await emitMany(first.emit, count);
  await until(() => others.size === count);
  await until(() => first.told.length > 0);
  if (process.env["RELIABLE_TEST_BACKEND"] === "embedded") sick.down = false;
  await until(
    () => countOf(first.broker, "consumed"),
    consumed => consumed === count
  );
  expect(sick.handled.size + well.handled.size).toBe(count);
  expect(await countOf(first.broker, "dead")).toBe(0);
});

it("strategy callback: an outage costs neither attempts nor rounds", async () => {
  const dependency = new Dependency();
  const { broker, emit, told } = await mail(cluster(), dependency, { checkDelaysMs: [30_000, 60_000] });
  const ids = await emitMany(emit, 30, { strategy: "callback", maxAttempts: 1 });
  await until(() => told.length > 0);
  const before = dependency.calls;
  await until(() => dependency.calls >= before + 5);
  dependency.down = false;
  for (const id of ids) await reaches(broker, id, "consumed");
});

it("a stop while it is open ends, and the next start handles what is left", async () => {
  const made = cluster();
  const dependency = new Dependency();
  const { broker, emit, told } = await mail(made, dependency);
  await emitMany(emit, 30);
  await until(() => told.length > 0);
  const service = broker.getLocalService("mail");
  await broker.destroyService(service as never);
  expect(isOpen(broker)).toBe(false);
  dependency.down = false;
  broker.createService(consumer(made.mixin({ breaker: QUICK }), "mail", "order.created", dependency.handler));
  await until(
    () => countOf(broker, "consumed"),
    count => count === 30
  );
});

it("what died in the run that opened it is waited for again", async () => {
  const dependency = new Dependency();
  const { broker, emit, told } = await mail(cluster(), dependency);
  const ids = await emitMany(emit, 4);
  for (const id of ids) await reaches(broker, id, "dead");
  const fifth = await emit("order.created", { n: 4 });
  await until(() => told.length > 0);
  await until(
    () => countOf(broker, "dead"),
    count => count === 0
  );
  dependency.down = false;
  for (const id of [...ids, fifth.id]) await reaches(broker, id, "consumed");
  expect((await story(broker, ids[0] as string)).timeline.map(({ what }) => what)).toContainEqual(
    "excused of mail by node-1: its breaker opened: nothing up to attempt 3 counts"
  );
});

it("what a human has resolved or discarded meanwhile stays so, and makes no parked message", async () => {
  const dependency = new Dependency();
  const { broker, emit, told } = await mail(cluster(), dependency);
  const ids = await emitMany(emit, 4);
  for (const id of ids) await reaches(broker, id, "dead");
  const [discarded, resolved, ...others] = ids as [string, string, string, string];
  await broker.call("reliable.discard", { id: discarded, note: "a test order" });
  await broker.call("reliable.resolve", { id: resolved, note: "sent by hand" });
  others.push((await emit("order.created", { n: 4 })).id);
  await until(() => told.length > 0);
  await until(
    () => countOf(broker, "dead"),
    count => count === 0
  );
  dependency.down = false;
  for (const id of others) await reaches(broker, id, "consumed");
  expect((await rowOf(broker, resolved)).status).toBe("resolved");
  const parked = () => storeOf(broker).messages.stats();
  expect((await parked()).parked).toBe(0);
  // What tells a failure of it, and gives nothing back, is shown as ever.
  await sendReceipt(broker, "mail", { id: discarded, outcome: "failed", excused: "all" });
  await sendReceipt(broker, "mail", { id: discarded, outcome: "failed", excused: "this" });
  await until(parked, stats => stats.parked > 0);
  const { rows } = await broker.call<{ rows: { reason: string }[] }>("reliable.parked");
  expect(rows.map(({ reason }) => reason)).toEqual([`receipt for a message that was discarded: ${discarded}`]);
});

it("what a human has retried while the outage goes on is held by it", async () => {
  const made = cluster();
  const dependency = new Dependency();
  const { broker, emit, told } = await mail(made, dependency, { breaker: false, maxAttempts: 1 });
  const ids = await emitMany(emit, 20);
  await until(
    () => countOf(broker, "dead"),
    count => count === 20
  );
  await broker.destroyService(broker.getLocalService("mail") as never);
  broker.createService(consumer(made.mixin({ breaker: QUICK }), "mail", "order.created", dependency.handler));
  for (const id of ids) await broker.call("reliable.retry", { id });
  await until(() => told.length > 0);
  await until(
    () => countOf(broker, "dead"),
    count => count === 0
  );
  dependency.down = false;
  await until(
    () => countOf(broker, "consumed"),
    count => count === 20
  );
});

it("a receipt that excuses what cannot be helped, or in words we do not know, is not obeyed", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  await foreignGroup(broker, "ledger", "order.created");
  const [helpless, strange] = (await emitMany(emit, 2)) as [string, string];
  await sendReceipt(broker, "ledger", { id: helpless, outcome: "failed", retryable: false, excused: "this" });
  await reaches(broker, helpless, "dead");
  await sendReceipt(broker, "ledger", { id: strange, outcome: "failed", excused: "often" as never });
  await until(async () => (await storeOf(broker).messages.stats()).parked === 1);
  expect((await rowOf(broker, strange)).spent).toEqual({});
  await sendReceipt(broker, "ledger", { id: strange, outcome: "failed", excused: "this" });
  await until(async () => (await rowOf(broker, strange)).base.ledger === 1);
});

it("services of one group must agree on it; what an event does not say is the service's", async () => {
  const made = cluster();
  const broker = made.broker("node-1");
  const of = (name: string, breaker: object) => ({
    ...consumer(made.mixin({ breaker: QUICK }), name, "order.created", () => undefined),
    events: { "order.created": { group: "mail", reliable: { breaker }, handler: () => undefined } }
  });
  broker.createService(of("one", { failures: 5 }) as never);
  broker.createService(of("two", QUICK) as never);
  broker.createService(emitter(made.mixin()));
  await broker.start();
  expect([...runtimeOf(broker).consumers].map(({ spec }) => spec.options.breaker)).toEqual(
    [1, 2].map(() => ({ ...QUICK, patienceMs: 0 }))
  );
  await emitterOf(broker)("order.created", { n: 1 }, { waitFor: "consumed" });
});
