import type { ServiceBroker, ServiceSchema } from "moleculer";
import { expect, it } from "vitest";
import type { EmitResult } from "../../src";
import { cluster } from "../support/brokers";
import { consumer, emitter, emitterOf, errorOf, oneNode, reaches, serviceOf, subscribed } from "../support/services";

interface Self {
  name: string;
  reliableEmit(event: string, payload: unknown, options?: object): Promise<EmitResult>;
}

it("emits in the user's own started() and stopped(), and consumes only between them", async () => {
  const made = cluster();
  const log: string[] = [];
  const emitted: string[] = [];
  const life = {
    name: "life",
    mixins: [made.mixin()],
    events: {
      "life.*": {
        reliable: true,
        handler: (ctx: { params: { when: string } }) => void log.push(`handled ${ctx.params.when}`)
      }
    },
    async started(this: Self) {
      emitted.push((await this.reliableEmit("life.event", { when: "started" })).id);
      // The group's queue may be there from an earlier life; whatever is in it must wait.
      log.push("started");
    },
    async stopped(this: Self) {
      log.push("stopping");
      emitted.push((await this.reliableEmit("life.event", { when: "stopped" })).id);
      log.push("stopped");
    }
  };
  // Keeps store and broker of the embedded backend alive while the other one is away.
  const watcher = await made.node("watcher", [emitter(made.mixin())]);
  const first = await made.node("first", [life]);
  await subscribed(watcher, 1);
  const run = async (broker: ServiceBroker) => {
    await reaches(watcher, (await emitterOf(watcher)("life.event", { when: "between" })).id, "consumed");
    await broker.stop();
  };
  await run(first);
  expect(log.indexOf("stopped")).toBe(log.length - 1);
  expect(log.filter(entry => entry !== "handled started")).toEqual([
    "started",
    "handled between",
    "stopping",
    "stopped"
  ]);
  log.length = 0;

  // The message emitted in stopped() waits for the next life, and is handled only after started().
  const second = await made.node("second", [life]);
  await reaches(watcher, emitted[1] as string, "consumed");
  await run(second);
  expect(log[0]).toBe("started");
  expect(log).toContain("handled stopped");
  expect(log.slice(-2)).toEqual(["stopping", "stopped"]);
});

it("finishes what the handlers hold before the user's stopped() runs", async () => {
  const made = cluster();
  const log: string[] = [];
  let reached: () => void = () => undefined;
  let finish: () => void = () => undefined;
  const inHandler = new Promise<void>(resolve => (reached = resolve));
  const gate = new Promise<void>(resolve => (finish = resolve));
  const slow = {
    ...consumer(made.mixin(), "slow", "order.created", async () => {
      reached();
      await gate;
      log.push("handled");
    }),
    stopped: () => void log.push("stopped")
  };
  const watcher = await made.node("watcher", [emitter(made.mixin())]);
  let stops: () => void = () => undefined;
  const otherStops = new Promise<void>(resolve => (stops = resolve));
  const node = await made.node("node", [slow, { name: "witness", stopped: () => stops() }]);
  await subscribed(watcher, 1);
  const { id } = await emitterOf(watcher)("order.created", {});
  await inHandler;
  const stopping = node.stop();
  // Services stop side by side.
  await otherStops;
  expect(log).toEqual([]);
  finish();
  await stopping;
  expect(log).toEqual(["handled", "stopped"]);
  await reaches(watcher, id, "consumed");
});

it("a broker that is stopped can be started again", async () => {
  const made = cluster();
  const seen: number[] = [];
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", ctx => void seen.push((ctx.params as { n: number }).n))
  ]);
  await emit("order.created", { n: 1 }, { waitFor: "consumed" });
  await broker.stop();
  expect(await errorOf(emit("order.created", { n: 2 }))).toMatchObject({ type: "RELIABLE_STOPPED" });
  await broker.start();
  await emit("order.created", { n: 3 }, { waitFor: "consumed" });
  expect(seen).toEqual([1, 3]);
});

it("a service can be destroyed and created again with other options, while others go on", async () => {
  const made = cluster();
  const seen: string[] = [];
  const version = (name: string, maxInFlight: number) =>
    consumer(made.mixin(), "stock", "order.created", () => void seen.push(name), { reliable: { maxInFlight } });
  const { broker, emit } = await oneNode(made, [version("old", 5)]);
  await emit("order.created", {}, { waitFor: "consumed" });
  await broker.destroyService(serviceOf(broker, "stock"));
  broker.createService(version("new", 9));
  await broker.waitForServices("stock");
  await emit("order.created", {}, { waitFor: "consumed" });
  expect(seen).toEqual(["old", "new"]);
});

it.each([
  ["maxInFlight", { maxInFlight: 5 }, { maxInFlight: 6 }],
  ["inbox", true, { inbox: false }]
])("two services of one group and event with different %s cannot start", async (option, one, other) => {
  const made = cluster();
  const part = (name: string, reliable: unknown) =>
    consumer(made.mixin(), name, "order.created", () => undefined, { group: "shared", reliable });
  const error = await errorOf(made.node("node-1", [part("one", one), part("other", other)]));
  expect(error).toMatchObject({
    type: "RELIABLE_BAD_CONSUMER",
    data: { option, group: "shared", event: "order.created" }
  });
  expect(error.message).toMatch(/'one'|'other'/);
});

it.each<[string, Partial<Record<string, unknown>>, string, string]>([
  ["a `$` event", { $event: { reliable: true } }, "shop", "stay on their node"],
  ["debounce", { "a.b": { reliable: true, debounce: 100 } }, "shop", "debounce"],
  ["throttle", { "a.b": { reliable: true, throttle: 100 } }, "shop", "throttle"],
  ["a group with a colon", { "a.b": { reliable: true, group: "a:b" } }, "shop", "'a:b'"],
  ["a group with a line break", { "a.b": { reliable: true, group: "a\n" } }, "shop", "control characters"],
  ["an unknown option", { "a.b": { reliable: { maxInFligth: 5 } } }, "shop", "Did you mean 'maxInFlight'?"],
  ["a wrong value", { "a.b": { reliable: { inbox: "always" } } }, "shop", "'inbox'"],
  ["neither true nor options", { "a.b": { reliable: "yes" } }, "shop", "must be true or an object"],
  ["a pattern nobody can read", { "a.(*.b": { reliable: true } }, "shop", "pattern"],
  ["a long pattern", { ["a".repeat(121)]: { reliable: true } }, "shop", "120 bytes"]
])("%s on a reliable event is RELIABLE_BAD_CONSUMER when the service is created", async (_, events, name, says) => {
  const made = cluster();
  const broker = made.broker("node-1");
  const withHandlers = Object.fromEntries(
    Object.entries(events).map(([event, definition]) => [
      event,
      { ...(definition as object), handler: () => undefined }
    ])
  );
  const schema = { name, mixins: [made.mixin()], events: withHandlers } as unknown as ServiceSchema;
  expect(await errorOf(() => broker.createService(schema))).toMatchObject({
    type: "RELIABLE_BAD_CONSUMER",
    message: expect.stringContaining(says)
  });
});

it.each([
  ["name", { name: "sh\u001bop" }],
  ["version", { name: "shop", version: "1\n" }]
])("a service whose %s has control characters is refused: it travels and is shown", async (_, schema) => {
  const made = cluster();
  const broker = made.broker("node-1");
  const create = () => broker.createService({ ...schema, mixins: [made.mixin()] } as unknown as ServiceSchema);
  expect(await errorOf(create)).toMatchObject({ type: "RELIABLE_BAD_OPTION", data: { option: "name" } });
});

it("options come from settings.reliable too, and two services may not contradict each other", async () => {
  const made = cluster();
  const broker = made.broker("node-1");
  broker.createService({
    name: "one",
    mixins: [made.mixin()],
    settings: { reliable: { maxAttempts: 1, pageSize: 100 } }
  } as unknown as ServiceSchema);
  const other = {
    name: "other",
    mixins: [made.mixin()],
    settings: { reliable: { pageSize: 200 } }
  } as unknown as ServiceSchema;
  expect(await errorOf(() => broker.createService(other))).toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    message: expect.stringMatching(/'other'.*'pageSize'/)
  });
  await broker.start();
  const { id } = await emitterOf(broker, "one")("nobody.listens", {}, { unroutableMs: 0 });
  expect(await reaches(broker, id, "dead")).toMatchObject({ maxAttempts: 1 });
});

it("the mixin may come twice into one service; contradictions are refused", async () => {
  const made = cluster();
  const base = { mixins: [made.mixin({ maxAttempts: 2 })] };
  const broker = made.broker("node-1");
  broker.createService({
    name: "twice",
    mixins: [base, made.mixin({ maxInFlight: 3 })],
    events: { "order.created": { reliable: true, handler: () => undefined } }
  } as unknown as ServiceSchema);
  expect(
    await errorOf(() =>
      broker.createService({
        name: "clash",
        mixins: [base, made.mixin({ maxAttempts: 4 })]
      } as unknown as ServiceSchema)
    )
  ).toMatchObject({ type: "RELIABLE_BAD_OPTION", message: expect.stringContaining("'maxAttempts'") });
  await broker.start();
  await subscribed(broker, 1);
  const sent = await emitterOf(broker, "twice")("order.created", {}, { waitFor: "consumed" });
  expect(await reaches(broker, sent.id, "consumed")).toMatchObject({ maxAttempts: 2 });
  await broker.stop();
  expect(await errorOf(emitterOf(broker, "twice")("order.created", {}))).toMatchObject({ type: "RELIABLE_STOPPED" });
});
