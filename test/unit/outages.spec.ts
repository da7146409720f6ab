import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { CourierStatus } from "../../src/couriers/courier";
import { Outages } from "../../src/operator/outages";
import { OverviewReader } from "../../src/operator/overview";
import { rabbitmqNow } from "../../src/operator/rabbitmq-now";
import { NoAnswer, StoreProbe } from "../../src/operator/store-probe";
import { systemClock } from "../../src/platform/clock";
import type { Store } from "../../src/stores/store";

const up = { connected: true, address: "amqp://q" };
const status = (more: object = {}) => ({ publish: up, blocked: false, unconfirmedMs: 0, ...more }) as CourierStatus;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** What tells by itself, told by the test. */
function world() {
  const told: Record<string, () => void> = {};
  const on = (name: string, listener: () => void) => void (told[name] = listener);
  const courier = { ready: true, on, status: () => status() };
  const store = {
    ...{ name: "mongodb", ready: true, now: () => new Date() },
    onReady: (listener: () => void) => on("store is ready", listener),
    onUnavailable: (listener: () => void) => on("store is away", listener)
  };
  const leases = { reachable: true, on };
  return { courier, store, leases, told };
}

describe("what is away", () => {
  it.each([
    ["RabbitMQ", "down", "ready"],
    ["store", "store is away", "store is ready"],
    ["Redis", "unreachable", "changed"]
  ])("%s: its own news begin and end it", (what, begins, ends) => {
    const { told, ...parts } = world();
    const outages = new Outages(parts as never, systemClock);
    const tell = (news: string) => {
      parts.leases.reachable = news !== begins;
      told[news]?.();
    };
    tell(begins);
    const first = outages.note(what, true) as Date;
    expect(outages.open).toBe(true);
    vi.advanceTimersByTime(60_000);
    expect(outages.note(what, true)).toEqual(first);
    tell(ends);
    expect(outages.open).toBe(false);
    tell(begins);
    expect(outages.note(what, true)).toEqual(new Date(first.getTime() + 60_000));
  });

  it("a node that Moleculer has forgotten does not keep it open", () => {
    const { told: _, ...parts } = world();
    const outages = new Outages(parts as never, systemClock);
    expect(outages.silent([{ nodeID: "n", answers: false }])).toHaveLength(1);
    expect(outages.silent([])).toEqual([]);
    expect(outages.open).toBe(false);
  });
});

describe("an overview", () => {
  function reader() {
    const { told: _, ...parts } = world();
    const written = { up: false, text: "down (mongodb)" };
    const read = vi.fn(async () => ({ health: {}, written: { ...written }, redis: undefined, holders: undefined }));
    const none = async () => undefined;
    const depthOf = vi.fn((): Promise<unknown> => Promise.resolve({ ready: 0, consumers: 1 }));
    const subscription = { group: "mail", pattern: "a", queue: "q", seenAt: new Date(), nodeID: "n" };
    const store = Object.assign(parts.store, {
      ...{ messages: { stats: () => new Promise(() => undefined), deadGroups: none } },
      ...{ history: { between: async () => ({ records: [] }) }, bulks: { list: async () => ({ rows: [] }) } }
    });
    const overview = new OverviewReader({
      ...{ nodeID: "n", ...parts, store, subscriptions: { all: [subscription], paused: [] } },
      ...{ depths: { of: depthOf }, health: { read }, nodes: { ask: async () => [] }, clock: systemClock }
    } as never);
    const sinceOf = async (name = "store") => {
      const asked = overview.read();
      await vi.advanceTimersByTimeAsync(4000);
      return (await asked).servers.find(server => server.name === name)?.awaySinceAt;
    };
    return { overview, written, read, depthOf, sinceOf };
  }

  it("an outage that ends while nobody looks is over: the next one has its own beginning", async () => {
    const { written, read, sinceOf } = reader();
    const first = (await sinceOf()) as string;
    written.up = true;
    await vi.advanceTimersByTimeAsync(60_000);
    const reads = read.mock.calls.length;
    written.up = false;
    await vi.advanceTimersByTimeAsync(600_000);
    // All was well: nobody asks any more.
    expect(read.mock.calls.length).toBe(reads);
    expect(Date.parse((await sinceOf()) as string) - Date.parse(first)).toBeGreaterThan(600_000);
  });

  it("looks no more when its node has stopped", async () => {
    const { overview, read } = reader();
    const asked = overview.read();
    overview.stop();
    await vi.advanceTimersByTimeAsync(4000);
    await asked;
    const reads = read.mock.calls.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(read.mock.calls.length).toBe(reads);
  });

  it("queues of which RabbitMQ tells nothing while it is connected: its row and a sentence say so", async () => {
    const { overview, written, depthOf } = reader();
    written.up = true;
    depthOf.mockReturnValue(new Promise(() => undefined));
    const asked = overview.read();
    await vi.advanceTimersByTimeAsync(4000);
    const { level, sentence, servers } = await asked;
    expect(level).toBe("watch");
    expect(sentence).toMatch(
      /^RabbitMQ is connected and answers slowly since .*: no answer about 1 queue within 2 s\./
    );
    expect(servers[0]).toMatchObject({ name: "RabbitMQ", ok: false, text: expect.stringContaining("answers slowly") });
  });
});

it.each([
  [status(), 0, "up (amqp://q)", undefined],
  [status({ unconfirmedMs: 4000 }), 0, "up (amqp://q)", undefined],
  [status({ unconfirmedMs: 8400 }), 0, "connected, answers slowly: no confirms for 8 s", "no confirms for 8 s"],
  [
    status({ unconfirmedMs: 8400 }),
    3,
    "connected, answers slowly: no answer about 3 queues within 2 s, no confirms for 8 s",
    "no answer about 3 queues within 2 s, no confirms for 8 s"
  ],
  // What is known better.
  [status({ publish: { connected: false, lastError: "gone" }, unconfirmedMs: 8400 }), 3, "does not answer: gone"],
  [status({ blocked: true, blockedReason: "low on disk", unconfirmedMs: 8400 }), 0, "blocks publishers: low on disk"]
])("RabbitMQ %#", (now, late, text, slow?: string) => {
  expect(rabbitmqNow(now, late, 2000)).toEqual({
    ok: text.startsWith("up"),
    text,
    ...(slow !== undefined && { slow })
  });
});

describe("a store that does not answer in time", () => {
  const never = () => Promise.reject(new NoAnswer("no answer within 1000 ms"));

  it("is slow while it counts as there, and away when it does not", async () => {
    const store = { name: "mongodb", ready: true, probe: () => new Promise(() => undefined) };
    const probe = new StoreProbe(store as unknown as Store);
    const slow = { up: false, slow: true, text: "answers slowly (mongodb): no answer within 1000 ms" };
    expect(await probe.ask(never)).toEqual(slow);
    store.ready = false;
    expect(await probe.ask(never)).toEqual({ up: false, text: "down (mongodb): no answer within 1000 ms" });
  });

  it("is away when it has failed what was asked before", async () => {
    let fail: (error: Error) => void = () => undefined;
    const store = { name: "mongodb", ready: true, probe: () => new Promise((_, reject) => (fail = reject)) };
    const probe = new StoreProbe(store as unknown as Store);
    expect(await probe.ask(never)).toMatchObject({ slow: true });
    fail(new Error("no answer within 10 s"));
    await Promise.resolve();
    expect(await probe.ask(never)).toEqual({ up: false, text: "down (mongodb): no answer within 1000 ms" });
  });
});
