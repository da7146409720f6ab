import type { Context } from "moleculer";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { foreignGroup, sendReceipt } from "../support/runtime";
import { consumer, emitter, emitterOf, oneNode, reaches, story, subscribed } from "../support/services";

const idOf = (ctx: Context<never>) => (ctx.params as { n: number }).n;
/** A `**` handler gets Moleculer's own plain events too. */
const isReliable = (ctx: Context) => "reliable" in ctx.locals;
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

it("hands an event to every group once, whatever the number of its instances", async () => {
  const made = cluster();
  const seen: Record<string, number[]> = { "stock@a": [], "stock@b": [], "mail@a": [], "mail@b": [] };
  const on = (node: string) =>
    ["stock", "mail"].map(name =>
      consumer(
        made.mixin({ maxInFlight: 5 }),
        name,
        "order.created",
        ctx => void seen[`${name}@${node}`]?.push(idOf(ctx))
      )
    );
  const first = await made.node("a", [...on("a"), emitter(made.mixin())]);
  await made.node("b", on("b"));
  // Two groups, and a consumer of each on both nodes.
  await until(
    () => subscribed(first, 2),
    rows => rows.every(row => row.consumers === 2)
  );
  await Promise.all(numbers(100).map(n => emitterOf(first)("order.created", { n }, { waitFor: "consumed" })));
  for (const group of ["stock", "mail"]) {
    const [a = [], b = []] = [seen[`${group}@a`], seen[`${group}@b`]];
    expect([...a, ...b].sort((x, y) => x - y)).toEqual(numbers(100));
    expect(a.length && b.length).toBeGreaterThan(0);
  }
});

it("what a consumer in another language tells of its handler's runs is shown, where there were several", async () => {
  const { broker, emit } = await oneNode(cluster(), []);
  const far = await foreignGroup(broker, "far", "order.created");
  const { id } = await emit("order.created", {}, { backoff: { initialMs: 1, maxMs: 1 } });
  for (const [n, runs] of [2, 1, 4].entries()) {
    await until(() => far.deliveries.length === n + 1);
    await sendReceipt(broker, "far", { id, outcome: n < 2 ? "failed" : "handled", attempt: n + 1, runs });
  }
  const { timeline } = await reaches(broker, id, "consumed");
  expect(timeline.map(({ what }) => what).filter(what => /^(?:attempt|handled)/.test(what))).toEqual(
    [
      /^attempt 1 failed in far on node elsewhere after 2 runs \(handler\)/,
      /^attempt 2 failed in far on node elsewhere \(handler\)/,
      /^handled by far on node elsewhere in 1 ms \(attempt 3, run 4\)$/
    ].map(text => expect.stringMatching(text))
  );
});

it("services that share a custom `group` share its events", async () => {
  const made = cluster();
  const seen: string[] = [];
  const part = (name: string) =>
    consumer(made.mixin({ maxInFlight: 1 }), name, "order.created", ctx => void seen.push(`${name}:${idOf(ctx)}`), {
      group: "shared"
    });
  const { broker, emit } = await oneNode(made, [part("one"), part("two")]);
  await until(
    () => subscribed(broker, 1),
    ([row]) => row?.consumers === 2
  );
  await Promise.all(numbers(20).map(n => emit("order.created", { n }, { waitFor: "consumed" })));
  expect(seen.map(entry => Number(entry.split(":")[1])).sort((x, y) => x - y)).toEqual(numbers(20));
  expect(new Set(seen.map(entry => entry.split(":")[0]))).toEqual(new Set(["one", "two"]));
});

it.each([
  ["a name", "mail", ["mail"]],
  ["a list", ["mail", "audit"], ["audit", "mail"]],
  ["a wildcard handler's group", "audit", ["audit"]]
])("the emit option `groups` as %s restricts who gets it", async (_, groups, expected) => {
  const made = cluster();
  const seen: string[] = [];
  const part = (name: string, pattern: string) => consumer(made.mixin(), name, pattern, () => void seen.push(name));
  const { broker, emit } = await oneNode(made, [
    part("stock", "order.created"),
    part("mail", "order.created"),
    part("audit", "order.**")
  ]);
  await subscribed(broker, 3);
  const { id } = await emit("order.created", {}, { groups, waitFor: "consumed" });
  expect(seen.sort()).toEqual(expected);
  expect(
    (await story(broker, id)).handled
      .split(", ")
      .map(group => group.split(":")[0])
      .sort()
  ).toEqual(expected);
  // The others have not merely been late.
  await emit("order.created", {}, { waitFor: "consumed" });
  expect(seen.filter(name => name === "stock")).toHaveLength(expected.includes("stock") ? 2 : 1);
});

it("a group that is named and unknown makes the message dead, and the others still get it", async () => {
  const made = cluster();
  const seen: string[] = [];
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "mail", "order.created", () => void seen.push("mail"))
  ]);
  await subscribed(broker, 1);
  const { id } = await emit("order.created", {}, { groups: ["mail", "nobody"], unroutableMs: 0, maxAttempts: 2 });
  const dead = await reaches(broker, id, "dead");
  expect(dead).toMatchObject({
    failed: "nobody",
    reason: expect.stringContaining("unroutable in group nobody at attempt 2")
  });
  await until(
    () => story(broker, id),
    ({ handled, waiting }) => handled === "mail" && waiting === ""
  );
  expect(seen).toEqual(["mail"]);
});

it("overlapping exact and wildcard handlers of one service each handle the event and each answer for it", async () => {
  const made = cluster();
  const seen: string[] = [];
  let failing = true;
  const audit = {
    name: "audit",
    mixins: [made.mixin()],
    events: {
      "order.created": { reliable: true, handler: () => void seen.push("exact") },
      "order.*": {
        reliable: true,
        handler: () => {
          seen.push("star");
          if (failing) throw new Error("star fails");
        }
      },
      "**": { reliable: true, handler: (ctx: Context) => void (isReliable(ctx) && seen.push("all")) }
    }
  };
  const { broker, emit } = await oneNode(made, [audit]);
  await subscribed(broker, 3);
  const { id } = await emit("order.created", {}, { maxAttempts: 2 });
  expect(await reaches(broker, id, "dead")).toMatchObject({ failed: "audit:order.*" });
  await until(
    () => story(broker, id),
    ({ waiting }) => waiting === ""
  );
  expect(seen.sort()).toEqual(["all", "exact", "star", "star"]);
  failing = false;
  await broker.call("reliable.retry", { id });
  await reaches(broker, id, "consumed");
  expect(seen.sort()).toEqual(["all", "exact", "star", "star", "star"]);
});

it.each([
  ["order.*", ["order.created", "order.x"], ["order", "order.created.eu", "orders.created"]],
  ["order.**", ["order.created", "order.created.eu"], ["order", "orders.created"]],
  ["*.created", ["order.created", "x.created"], ["created", "a.b.created", "order.createdx"]],
  ["order.?", ["order.x"], ["order.xy", "order."]],
  ["ord*.created", ["order.created", "ord.created"], ["or.created", "order.x.created"]],
  ["order**", ["order.created", "orders", "order.a.b"], ["x.order"]]
])("'%s' takes %j and not %j", async (pattern, yes, no) => {
  const made = cluster();
  const seen: string[] = [];
  const all: string[] = [];
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "picky", pattern, ctx => void seen.push(ctx.eventName ?? "")),
    consumer(made.mixin(), "all", "**", ctx => void (isReliable(ctx) && all.push(ctx.eventName ?? "")))
  ]);
  await subscribed(broker, 2);
  await Promise.all([...yes, ...no].map(event => emit(event, {}, { waitFor: "consumed" })));
  expect(seen.sort()).toEqual([...yes].sort());
  expect(all.sort()).toEqual([...yes, ...no].sort());
});

it("versions of a service share a group, as in Moleculer", async () => {
  const made = cluster();
  const seen: string[] = [];
  const version = (number: number) => ({
    ...consumer(
      made.mixin({ maxInFlight: 1 }),
      "stock",
      "order.created",
      ctx => void seen.push(`v${number}:${ctx.service?.fullName}:${ctx.eventGroups?.join()}`)
    ),
    version: number
  });
  const { broker, emit } = await oneNode(made, [version(1), version(2)]);
  await until(
    () => subscribed(broker, 1),
    ([row]) => row?.consumers === 2 && row.group === "stock"
  );
  await Promise.all(numbers(20).map(n => emit("order.created", { n }, { waitFor: "consumed" })));
  expect(seen).toHaveLength(20);
  expect(new Set(seen)).toEqual(new Set(["v1:v1.stock:stock", "v2:v2.stock:stock"]));
});

it("a versioned service is named by its full name as producer and caller", async () => {
  const made = cluster();
  const callers: unknown[] = [];
  const broker = await made.node("node-1", [
    { ...emitter(made.mixin()), version: 3 },
    consumer(made.mixin(), "stock", "order.created", ctx => void callers.push(ctx.caller))
  ]);
  const { id } = await emitterOf(broker, "v3.emitter")("order.created", {}, { waitFor: "consumed" });
  expect(callers).toEqual(["v3.emitter"]);
  expect((await story(broker, id)).producer).toBe("v3.emitter");
});

it("a namespace hears nothing of another one", async () => {
  const [one, other] = [cluster(), cluster()];
  const seen: string[] = [];
  const nodes = await Promise.all(
    [one, other].map((made, i) =>
      oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => void seen.push(`namespace ${i}`))])
    )
  );
  await Promise.all(nodes.map(({ broker }) => subscribed(broker, 1)));
  await nodes[0]?.emit("order.created", {}, { waitFor: "consumed" });
  await nodes[1]?.emit("order.created", {}, { waitFor: "consumed" });
  expect(seen).toEqual(["namespace 0", "namespace 1"]);
  expect(await nodes[0]?.broker.call("reliable.list", {})).toMatchObject({ total: 1 });
});
