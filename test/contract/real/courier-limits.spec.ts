import { afterEach, beforeEach, expect, test } from "vitest";
import { AmqpCourier, type AmqpCourierOptions } from "../../../src/couriers/amqp/courier";
import { systemClock } from "../../../src/platform/clock";
import {
  collect,
  eventually,
  next,
  publication,
  recordingLogger,
  repairedByHand,
  uniqueName
} from "../../support/couriers";
import { atBroker, deleteExchange, rabbitmqctl } from "../../support/rabbitmq";
import { urls } from "../../support/servers";
import { type TcpProxy, tcpProxy } from "../../support/tcp-proxy";

/** What RabbitMQ refuses for a while, and what it refuses for good: told apart by its texts. */

let namespace: string;
let couriers: AmqpCourier[];
let proxies: TcpProxy[];
let cleaning: (() => Promise<unknown>)[];

beforeEach(() => {
  namespace = uniqueName("limit");
  couriers = [];
  proxies = [];
  cleaning = [];
});

afterEach(async () => {
  await Promise.all(couriers.map(courier => courier.close(0)));
  await Promise.all(proxies.map(proxy => proxy.close()));
  for (const clean of cleaning) await clean();
  await atBroker(channel => channel.deleteExchange(`${namespace}.reliable.events`));
});

function create(address: string, options: Partial<AmqpCourierOptions> = {}): { courier: AmqpCourier; told: Error[] } {
  const logger = recordingLogger();
  const nodeID = uniqueName("node");
  const courier = new AmqpCourier({ urls: address, namespace, nodeID, logger, clock: systemClock, ...options });
  couriers.push(courier);
  const told: Error[] = [];
  courier.on("error", error => void told.push(error));
  return { courier, told };
}

const ctl = (...args: string[]) => rabbitmqctl("-q", ...args);

test("a limit of connections, and one of queues: a start goes on, they are told, and both pass", async () => {
  const [user, vhost] = [uniqueName("user"), uniqueName("vhost")];
  await ctl("add_user", user, "secret");
  cleaning.push(() => ctl("delete_user", user));
  await ctl("add_vhost", vhost);
  cleaning.push(() => ctl("delete_vhost", vhost));
  await ctl("set_permissions", "-p", vhost, user, ".*", ".*", ".*");
  await ctl("set_vhost_limits", "-p", vhost, JSON.stringify({ "max-connections": 0, "max-queues": 1 }));
  const url = new URL(urls().amqp);
  Object.assign(url, { username: user, password: "secret", pathname: `/${vhost}` });
  const { courier, told } = create(url.href);
  await courier.start();
  expect(courier.ready).toBe(false);
  expect(told[0]).toMatchObject({
    type: "RELIABLE_UNAVAILABLE",
    retryable: true,
    message: expect.stringContaining("limit")
  });
  const ready = next(courier, "ready");
  await ctl("set_vhost_limits", "-p", vhost, JSON.stringify({ "max-queues": 1 }));
  await ready;
  expect(await courier.declare({ name: "first" })).toBe(true);
  // RabbitMQ counts the queues of a vhost in a table that follows what was declared by some milliseconds.
  await eventually(async () => (await ctl("list_queues", "-p", vhost, "name")).includes("first"));
  expect(await courier.declare({ name: "second" })).toBe(false);
  expect(told.at(-1)).toMatchObject({
    type: "RELIABLE_UNAVAILABLE",
    message: expect.stringMatching(/second.*limit/)
  });
  // A consumer goes on trying.
  const { until } = await collect(courier, { name: "second" }, { ack: true });
  expect(courier.status().idle).toEqual(["second"]);
  await ctl("clear_vhost_limits", "-p", vhost);
  await eventually(() => courier.status().idle.length === 0);
  expect(await courier.publish(publication({ queue: "second" }))).toEqual({ outcome: "confirmed" });
  await until(1);
}, 600_000);

test("more queues than channels: a typed error with both numbers", async () => {
  const { courier } = create(`${urls().amqp}?channelMax=5`);
  await courier.start();
  const name = (i: number) => `${namespace}.${i}`;
  for (const i of [1, 2, 3]) cleaning.push(() => atBroker(channel => channel.deleteQueue(name(i))));
  for (const i of [1, 2]) await courier.consume({ queue: { name: name(i) }, prefetch: 1, onDelivery: () => undefined });
  await expect(
    courier.consume({ queue: { name: name(3) }, prefetch: 1, onDelivery: () => undefined })
  ).rejects.toMatchObject({ type: "RELIABLE_TOO_MANY_CHANNELS", data: { queue: name(3), limit: 5, channels: 6 } });
});

test("an exchange of another kind in place of ours: told once, and shown until it has passed", async () => {
  const { clock, repair } = repairedByHand();
  const { courier, told } = create(urls().amqp, { clock });
  await courier.start();
  for (const i of [1, 2]) {
    const name = `${namespace}.${i}`;
    cleaning.push(() => atBroker(channel => channel.deleteQueue(name)));
    await courier.declare({ name, bindings: ["a"] });
  }
  const exchange = `${namespace}.reliable.events`;
  await deleteExchange(exchange);
  await atBroker(channel => channel.assertExchange(exchange, "direct", { durable: true }));
  const repaired = (check: () => boolean) =>
    eventually(() => {
      repair();
      return check();
    });
  await repaired(() => (courier.status().unmended[0]?.times ?? 0) > 2);
  expect(courier.status().unmended).toHaveLength(1);
  const mismatches = () => told.filter(error => (error as { type?: string }).type === "RELIABLE_QUEUE_MISMATCH");
  expect(mismatches()).toHaveLength(1);
  await deleteExchange(exchange);
  await repaired(() => courier.status().unmended.length === 0);
  expect(await courier.publish(publication({ event: "a" }))).toEqual({ outcome: "confirmed" });
});

test("a queue that was deleted is told by the repair, and made again", async () => {
  const { courier, told } = create(urls().amqp, { repairEveryMs: 100 });
  await courier.start();
  const name = `${namespace}.checks`;
  cleaning.push(() => atBroker(channel => channel.deleteQueue(name)));
  await courier.declare({ name });
  expect(await courier.publish(publication({ queue: name, delayMs: 60_000 }))).toEqual({ outcome: "confirmed" });
  const missing = () => told.map(error => (error as { data?: { queue?: string } }).data?.queue);
  await atBroker(channel => channel.deleteQueue(`${name}.delay.60000`));
  await eventually(() => missing().includes(`${name}.delay.60000`));
  // A deletion between the repair's look and its declare goes unseen.
  await eventually(async () => {
    await atBroker(channel => channel.deleteQueue(name));
    return missing().includes(name);
  });
  await eventually(async () => (await courier.depth(name)) !== undefined);
});

test("how long no confirm has come is shown, and ends with the first one", async () => {
  const { hostname, port } = new URL(urls().amqp);
  const net = await tcpProxy({ host: hostname, port: Number(port) });
  proxies.push(net);
  const url = new URL(urls().amqp);
  url.host = `127.0.0.1:${net.port}`;
  const { courier } = create(url.href);
  await courier.start();
  const name = `${namespace}.q`;
  cleaning.push(() => atBroker(channel => channel.deleteQueue(name)));
  await courier.declare({ name });
  net.hold();
  const publishing = courier.publish(publication({ queue: name }));
  await eventually(() => courier.status().unconfirmedMs > 50);
  net.release();
  expect(await publishing).toEqual({ outcome: "confirmed" });
  expect(courier.status().unconfirmedMs).toBe(0);
});
