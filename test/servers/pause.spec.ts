import type { ServiceBroker } from "moleculer";
import { expect, it, onTestFinished } from "vitest";
import type { PauseResult, ReliableOptions } from "../../src";
import { CONTROL_TYPE, controlOf } from "../../src/wire/control";
import { eventQueue, pauseMarker } from "../../src/wire/names";
import { type Cluster, cluster, until } from "../support/brokers";
import { startNode, type TestNode } from "../support/child";
import { startPython } from "../support/python";
import { addJobOf, jobQueue, plainNode, queued } from "../support/queues";
import { atBroker } from "../support/rabbitmq";
import { courierOf, rowOf, runtimeOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";
import { AMQP_ONLY } from "../support/strategies";
import { sweptAgainAndAgain } from "../support/swept";
import { tcpProxy } from "../support/tcp-proxy";

const pause = (broker: ServiceBroker, group: string, more: object = {}) =>
  broker.call<PauseResult, object>("reliable.pause", { group, note: "a test", ...more });
const resume = (broker: ServiceBroker, group: string) => broker.call<PauseResult, object>("reliable.resume", { group });

/** A process that has RabbitMQ alone. */
function farNode({ namespace, options }: Cluster, nodeID: string, own: ReliableOptions = {}): Promise<TestNode> {
  const node = { namespace, nodeID, group: "stock", options: options({ ...AMQP_ONLY, ...own }) };
  return startNode("test/support/pause-node.ts", { env: { NODE: JSON.stringify(node) } });
}

it("processes without a store cease and go on by the news, not by their own look, and one that is started meanwhile takes nothing", {
  timeout: 400_000
}, async () => {
  const made = cluster();
  const home = await made.node("home", [emitter(made.mixin())]);
  const emit = emitterOf(home);
  const [one, other] = await Promise.all([farNode(made, "far-1"), farNode(made, "far-2")]);
  await Promise.all([one.next("started"), other.next("started")]);
  await until(
    () => subscribed(home, 1),
    ([row]) => row?.consumers === 2
  );
  const slow = await Promise.all([1, 2].map(n => emit("order.created", { n, slow: true })));
  await until(() => [one, other].flatMap(node => node.all("begun")).length > 0);
  const pausing = pause(home, "stock");
  await until(() => [one, other].every(({ output }) => output.includes("is paused")));
  const held = await Promise.all([3, 4, 5].map(n => emit("order.created", { n })));
  const some = [slow[0], held[0]].flatMap(result => result?.id ?? []);
  await sweptAgainAndAgain(home, some);
  // Handlers that run end, and their receipts and acks count.
  for (const node of [one, other]) node.tell("finish");
  for (const { id } of slow) await reaches(home, id, "consumed");
  await pausing;
  // A restart, without a goodbye.
  await one.kill("SIGKILL");
  const again = await farNode(made, "far-1");
  await again.next("started");
  await until(() => again.output.includes("is paused"));
  await sweptAgainAndAgain(home, some.slice(1));
  expect(again.all("begun")).toEqual([]);
  for (const { id } of held)
    expect(await rowOf(home, id)).toMatchObject({ status: "published", failures: [], spent: {}, waiting: ["stock"] });
  await resume(home, "stock");
  await until(
    () => subscribed(home, 1),
    ([row]) => row?.consumers === 2
  );
  for (const { id } of held) await reaches(home, id, "consumed");
  const handled = [other, again].flatMap(node => node.all<number>("ended")).filter(n => n > 2);
  expect(handled.toSorted()).toEqual([3, 4, 5]);
});

it("no store and no tracker need be there for a consumer to stay paused, and RabbitMQ may be lost meanwhile", {
  timeout: 400_000
}, async () => {
  const { hostname, port } = new URL(urls().amqp);
  const proxy = await tcpProxy({ host: hostname, port: Number(port) });
  onTestFinished(() => proxy.close());
  const amqp = Object.assign(new URL(urls().amqp), { host: `127.0.0.1:${proxy.port}` }).href;
  const made = cluster();
  const seen: number[] = [];
  const far = await made.node("far", [
    consumer(
      made.mixin({ ...AMQP_ONLY, amqp }),
      "stock",
      "order.created",
      ctx => void seen.push((ctx.params as { n: number }).n)
    )
  ]);
  const home = await made.node("home", [emitter(made.mixin())]);
  await subscribed(home, 1);
  const [only] = runtimeOf(far).consumers;
  await pause(home, "stock");
  const { id } = await emitterOf(home)("order.created", { n: 1 });
  await until(
    () => rowOf(home, id),
    row => row.publishedAt !== undefined
  );
  const courier = courierOf(home);
  await home.stop();
  const epochs = () => courierOf(far).status().reconnects;
  for (let n = 0; n < 2; n++) {
    const reconnects = epochs();
    proxy.reset();
    await until(() => epochs() > reconnects && courierOf(far).ready && courierOf(far).status().consume.connected);
    await until(() => only?.paused);
  }
  const queue = eventQueue(made.namespace, "stock", "order.created");
  await until(
    () => courierOf(far).depth(queue),
    depth => depth?.ready === 1 && depth.consumers === 0
  );
  expect(seen).toEqual([]);
  // The marker is all there is: whoever takes it away ends the pause, when the next look comes or the news.
  await courierOf(far).control.unmark(pauseMarker(made.namespace, "stock"));
  await courierOf(far).publish({
    to: { control: "stock" },
    messageId: "m",
    type: CONTROL_TYPE,
    headers: {},
    body: controlOf("stock")
  });
  await until(() => seen.length === 1);
  expect(courier.ready).toBe(false);
});

it("an emit that waits on a node without a store is told which group is paused", async () => {
  const made = cluster();
  const home = await made.node("home", [consumer(made.mixin(), "stock", "order.created", () => undefined)]);
  const far = await made.node("far", [emitter(made.mixin({ ...AMQP_ONLY, strategy: "callback" }))]);
  await subscribed(home, 1);
  await far.waitForServices("reliable");
  await pause(home, "stock", { by: "anna" });
  const wait = { waitFor: "consumed", timeoutMs: 1_000 } as const;
  const error = await errorOf(emitterOf(far)("order.created", {}, wait));
  expect(error).toMatchObject({
    type: "RELIABLE_WAIT_TIMEOUT",
    message: expect.stringMatching(/Paused: stock, since .* by anna: a test\./)
  });
});

it("a forged, unreadable or endless message to the control exchange does nothing but cause looks", async () => {
  const made = cluster();
  const signed = made.mixin({ signingKey: "k".repeat(40), signing: "require" });
  const broker = await made.node("home", [
    emitter(signed),
    consumer(signed, "stock", "order.created", () => undefined)
  ]);
  await subscribed(broker, 1);
  const [only] = runtimeOf(broker).consumers;
  const { control } = courierOf(broker);
  let looks = 0;
  const marked = control.marked.bind(control);
  control.marked = name => {
    looks++;
    return marked(name);
  };
  const exchange = `${made.namespace}.reliable.control`;
  await atBroker(async channel => {
    for (const body of [controlOf("stock"), Buffer.from([0, 255]), Buffer.from('{"v":2}'), Buffer.alloc(100_000, "[")])
      channel.publish(exchange, "stock", body, { type: CONTROL_TYPE });
    await channel.waitForConfirms();
  });
  // What comes after them has come through.
  await pause(broker, "stock");
  await until(() => only?.paused);
  const before = looks;
  await resume(broker, "stock");
  await until(() => only?.consuming);
  expect(before).toBeLessThan(10);
  expect(runtimeOf(broker).metrics.totals["unsigned"]).toBeGreaterThan(0);
});

it("a stranger's messages without end cost a few looks a second, where nothing is signed", async () => {
  const made = cluster();
  const broker = await made.node("home", [
    emitter(made.mixin()),
    consumer(made.mixin(), "stock", "order.created", () => undefined)
  ]);
  await subscribed(broker, 1);
  const [only] = runtimeOf(broker).consumers;
  const { control } = courierOf(broker);
  let looks = 0;
  const marked = control.marked.bind(control);
  control.marked = name => {
    looks++;
    return marked(name);
  };
  await atBroker(async channel => {
    for (let n = 0; n < 2000; n++)
      channel.publish(`${made.namespace}.reliable.control`, "stock", controlOf("stock"), { type: CONTROL_TYPE });
    await channel.waitForConfirms();
  });
  await pause(broker, "stock");
  await until(() => only?.paused);
  expect(looks).toBeLessThan(40);
});

it("a queue of moleculer-amqp-queue is paused where its workers are ours", async () => {
  const made = cluster();
  const queue = jobQueue(made);
  const handled: number[] = [];
  const broker = await made.node("home", [
    queued(
      made,
      "jobs",
      { queues: { [queue]: { settle: "receipt" } } },
      {
        [queue]: (channel, message) => {
          handled.push((JSON.parse(String(message.content)) as { n: number }).n);
          channel.ack(message);
        }
      }
    )
  ]);
  const add = addJobOf(broker, "jobs");
  await add(queue, { n: 1 }, { waitFor: "consumed" });
  const group = `queue/${queue}`;
  expect(await pause(broker, group)).toMatchObject({ group, queues: [{ queue, consumers: 0 }] });
  const { id } = await add(queue, { n: 2 });
  // A plain one, as services without us send it.
  await atBroker(async channel => {
    channel.sendToQueue(queue, Buffer.from('{"n":3}'), { persistent: true });
    await channel.waitForConfirms();
  });
  await until(
    () => courierOf(broker).depth(queue),
    depth => depth?.ready === 2
  );
  await sweptAgainAndAgain(broker, [id]);
  expect(await rowOf(broker, id)).toMatchObject({ failures: [], spent: {} });
  const error = await errorOf(add(queue, { n: 4 }, { waitFor: "consumed", timeoutMs: 1_000 }));
  expect(error.message).toContain(`Paused: ${group}, since`);
  expect(handled).toEqual([1]);
  await resume(broker, `queue-confirm/${queue}`);
  await until(() => handled.length === 4);
  expect(handled.toSorted()).toEqual([1, 2, 3, 4]);
  await reaches(broker, id, "consumed");
});

it("a queue whose workers are not ours is refused, and all is as before", async () => {
  const made = cluster();
  const queue = jobQueue(made);
  const handled: number[] = [];
  await plainNode(made, "theirs", {
    [queue]: (channel, message) => {
      handled.push(1);
      channel.ack(message);
    }
  });
  const broker = await made.node("home", [queued(made, "jobs")]);
  const error = await errorOf(pause(broker, `queue/${queue}`));
  expect([error.type, error.message]).toEqual(["RELIABLE_UNSUPPORTED", expect.stringContaining(queue)]);
  expect(await broker.call("reliable.paused")).toEqual([]);
  expect(await courierOf(broker).control.marked(pauseMarker(made.namespace, `queue/${queue}`))).toBe(false);
  expect((await storeOf(broker).audits.list(0, 5)).rows).toMatchObject([{ act: "pause", state: "failed" }]);
});

it("the consumer in Python honours pauses: while it runs, and when it is started meanwhile", {
  timeout: 400_000
}, async () => {
  const made = cluster();
  const home = await made.node("home", [emitter(made.mixin())]);
  const emit = emitterOf(home);
  const env = { AMQP_URL: urls().amqp, NAMESPACE: made.namespace };
  const first = startPython(["consumer.py"], env);
  await subscribed(home, 1);
  await emit("order.created", { order: 1 }, { waitFor: "consumed" });
  const { queues } = await pause(home, "invoices");
  expect(queues).toMatchObject([{ consumers: 0 }]);
  await first.says("paused");
  first.kill("SIGTERM");
  expect(await first.ended).toBe(0);
  const again = startPython(["consumer.py"], env);
  const { id } = await emit("order.created", { order: 2 });
  await again.says("paused");
  await sweptAgainAndAgain(home, [id]);
  expect(again.output).not.toContain("printing");
  await resume(home, "invoices");
  await reaches(home, id, "consumed");
  expect(again.output.split("printed the invoice of order 2")).toHaveLength(2);
});
