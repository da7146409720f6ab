import type { ConfirmChannel } from "amqplib";
import type { ServiceBroker } from "moleculer";
import { expect, it, onTestFinished } from "vitest";
import type { ReliableError } from "../../src";
import { systemQueues } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { atBroker, rabbitmqctl } from "../support/rabbitmq";
import { courierOf } from "../support/runtime";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";

/** What operators set over our queues: promised messages are handled all the same, without an attempt of theirs. */

const STRATEGIES = ["outbox", "callback"] as const;
/** Handlers take this long, so that messages wait in the queue. */
const SLOW_MS = 15;
const MESSAGES = 40;
/** Less than all handlers together take; more than a busy machine takes to deliver one, or none is ever handled. */
const TTL_MS = 500;

type Told = { error: ReliableError };

interface World {
  home: ServiceBroker;
  /** Handles with one handler at a time. */
  consume(nodeID: string): Promise<ServiceBroker>;
  handled: Set<number>;
  told: ReliableError[];
  policy(definition: object, where?: "group" | "all", command?: string): Promise<void>;
}

async function world(checkDelaysMs = [1500, 3000, 6000]): Promise<World> {
  const made = cluster();
  const handled = new Set<number>();
  const told: ReliableError[] = [];
  const watch = {
    name: "watch",
    events: { "$reliable.error": (ctx: { params: Told }) => void told.push(ctx.params.error) }
  };
  const options = { checkDelaysMs, receiptTimeoutMs: 1500 };
  const home = await made.node("home", [emitter(made.mixin(options)), watch]);
  // Moleculer 0.14.12 tells by the name `ctx` that a handler takes a context.
  const handler = async (ctx: { params: { n: number } }) => {
    const { n } = ctx.params;
    await new Promise(resolve => setTimeout(resolve, SLOW_MS));
    handled.add(n);
  };
  const consume = (nodeID: string) =>
    made.node(nodeID, [
      consumer(made.mixin({ ...options, service: false }), "stock", "order.created", handler as never, {
        reliable: { maxInFlight: 1 }
      })
    ]);
  const policy: World["policy"] = async (definition, where = "group", command = "set_policy") => {
    const pattern = `^${made.namespace}\\.reliable\\.${where === "group" ? "on\\." : ""}`;
    await rabbitmqctl("-q", command, made.namespace, pattern, JSON.stringify(definition), "--apply-to", "queues");
    onTestFinished(async () => {
      await rabbitmqctl("-q", command.replace("set_", "clear_"), made.namespace);
    });
  };
  return { home, consume, handled, told, policy };
}

/** Emits with both strategies; one that is rejected was not promised. Returns what was promised. */
async function promise(home: ServiceBroker): Promise<{ n: number; id: string }[]> {
  const emit = emitterOf(home);
  const emitted = Array.from({ length: MESSAGES }, async (_, n) => {
    const strategy = STRATEGIES[n % 2];
    const { id } = await emit("order.created", { n }, { strategy, timeoutMs: 5000 });
    return { n, id };
  });
  return (await Promise.allSettled(emitted)).flatMap(each => (each.status === "fulfilled" ? [each.value] : []));
}

/** All are consumed, and each was handled. Returns what has failed. */
async function allHandled({ home, handled }: World, promised: { n: number; id: string }[]): Promise<string[]> {
  expect(promised.length).toBeGreaterThan(0);
  const failed: string[] = [];
  for (const { n, id } of promised) {
    // Taken out again and again, it comes after ever longer pauses.
    const { timeline } = await reaches(home, id, "consumed", 60_000);
    failed.push(...timeline.map(({ what }) => what).filter(what => what.includes(" failed ")));
    expect(handled.has(n)).toBe(true);
  }
  return failed;
}

const displaced = (told: ReliableError[]) => told.filter(({ type }) => type === "RELIABLE_DISPLACED");

it.each([
  ["message-ttl, while the group is away and while it is slow", { "message-ttl": TTL_MS }, "expired", "set_policy"],
  ["message-ttl of an operator policy", { "message-ttl": TTL_MS }, "expired", "set_operator_policy"],
  ["max-length with drop-head", { "max-length": 3, overflow: "drop-head" }, "maxlen", "set_policy"],
  ["max-length with reject-publish-dlx", { "max-length": 3, overflow: "reject-publish-dlx" }, "maxlen", "set_policy"]
])(
  "a group's queue under %s: told with its queue and reason, and all are handled",
  async (_, definition, reason, command) => {
    const it = await world();
    const first = await it.consume("stock-1");
    const [row] = await subscribed(it.home, 1);
    await it.policy(definition, "group", command);
    await first.stop();
    const promised = await promise(it.home);
    await until(() => displaced(it.told).length > 0);
    await it.consume("stock-2");
    await allHandled(it, promised);
    expect(displaced(it.told)[0]?.data).toEqual({ queue: row?.queue, reason, messages: expect.any(Number) });
  }
);

it.each([
  ["message-ttl", { "message-ttl": 300 }],
  ["max-length", { "max-length": 3 }],
  ["max-length with drop-head", { "max-length": 3, overflow: "drop-head" }],
  ["max-length with reject-publish", { "max-length": 3, overflow: "reject-publish" }],
  ["max-length with reject-publish-dlx", { "max-length": 3, overflow: "reject-publish-dlx" }]
])("all queues under %s: what was promised is handled", async (_, definition) => {
  const it = await world();
  const first = await it.consume("stock-1");
  await subscribed(it.home, 1);
  await it.policy(definition, "all");
  const promised = await promise(it.home);
  await first.stop();
  const more = (await promise(it.home)).map(({ n, id }) => ({ n, id }));
  await it.consume("stock-2");
  // Where both queues for what is taken out are full, RabbitMQ drops it: that is found as silence, and costs one.
  const failed = await allHandled(it, [...promised, ...more]);
  expect(failed.filter(what => !what.includes("silence"))).toEqual([]);
});

it("expires: a group's queue that was deleted is told, and its messages wait for it without an attempt", async () => {
  const it = await world();
  const first = await it.consume("stock-1");
  const [row] = await subscribed(it.home, 1);
  await it.policy({ expires: 500 });
  await first.stop();
  const before = await promise(it.home);
  await until(async () => (await courierOf(it.home).depth(row?.queue as string)) === undefined);
  const after = await promise(it.home);
  // Of those of `callback` the message finds no queue, and the emit is rejected.
  expect(after.length).toBe(MESSAGES / 2);
  await until(() => it.told.some(({ type }) => type === "RELIABLE_QUEUE_MISSING"));
  await it.consume("stock-2");
  await allHandled(it, [...before, ...after]);
});

it("delivery-limit: a check whose nodes have died on it comes back to them", async () => {
  const it = await world();
  await it.consume("stock-1");
  await subscribed(it.home, 1);
  await it.policy({ "delivery-limit": 1 }, "all");
  const { checks } = systemQueues(it.home.namespace);
  // Away, but for its own connection: nobody else takes the check.
  const messageId = "lost-on-the-way";
  await until(async () => (await courierOf(it.home).depth(checks))?.consumers === 1);
  await atBroker(async channel => {
    const copy = {
      messageId,
      type: "order.created",
      headers: { "x-death": [{ queue: checks, reason: "delivery_limit" }] }
    };
    channel.sendToQueue(`${it.home.namespace}.reliable.parked`, Buffer.from("{}"), copy);
    await (channel as ConfirmChannel).waitForConfirms();
  });
  // It is no check, which is said by the one that reads checks: it was put back there.
  const { rows } = await until(
    () => it.home.call<{ rows: { queue: string; reason: string }[] }, object>("reliable.parked", {}),
    seen => seen.rows.length > 0
  );
  expect(rows).toEqual([
    expect.objectContaining({ queue: checks, reason: expect.stringContaining("x-reliable-round") })
  ]);
});
