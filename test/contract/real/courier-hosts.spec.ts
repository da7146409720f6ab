import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AmqpCourier, type AmqpCourierOptions } from "../../../src/couriers/amqp/courier";
import { type Clock, systemClock } from "../../../src/platform/clock";
import {
  collect,
  eventually,
  next,
  outcomes,
  publication,
  type RecordingLogger,
  recordingLogger,
  uniqueName
} from "../../support/couriers";
import { atBroker } from "../../support/rabbitmq";
import { urls } from "../../support/servers";
import { type TcpProxy, tcpProxy } from "../../support/tcp-proxy";

/** Two hosts of one cluster: what each does to connections is its proxy's, what is behind is one RabbitMQ. */
let namespace: string;
let logger: RecordingLogger;
let hosts: TcpProxy[];
let couriers: AmqpCourier[];
let queue: string;

beforeEach(async () => {
  namespace = uniqueName("hosts");
  queue = `${namespace}.q`;
  logger = recordingLogger();
  const { hostname, port } = new URL(urls().amqp);
  const target = { host: hostname, port: Number(port) };
  hosts = [await tcpProxy(target), await tcpProxy(target)];
  couriers = [];
});

afterEach(async () => {
  for (const host of hosts) host.release();
  await Promise.all(couriers.map(courier => courier.close(0)));
  await Promise.all(hosts.map(host => host.close()));
  await atBroker(async channel => {
    await channel.deleteQueue(queue);
    await channel.deleteExchange(`${namespace}.reliable.events`);
  });
});

const addresses = () =>
  hosts.map(({ port }) => {
    const url = new URL(urls().amqp);
    url.host = `127.0.0.1:${port}`;
    return url.href;
  });

async function started(nodeID: string, options: Partial<AmqpCourierOptions> = {}): Promise<AmqpCourier> {
  const courier = new AmqpCourier({ urls: addresses(), namespace, nodeID, logger, clock: systemClock, ...options });
  couriers.push(courier);
  await courier.start();
  return courier;
}

const hostOf = (address: string | undefined) => hosts.findIndex(({ port }) => address?.endsWith(`:${port}`));
/** Where it publishes and consumes. */
const places = (courier: AmqpCourier) => {
  const { publish, consume } = courier.status();
  return [publish, consume].map(({ connected, address }) => (connected ? hostOf(address) : -1));
};
const at = async (courier: AmqpCourier, host: number) => {
  await eventually(() => places(courier).every(place => place === host) && courier.ready);
};

/** What would be done in a minute is done when the test says so. */
function atOnce(): { clock: Clock; pass(): void } {
  const later = new Set<() => void>();
  const after: Clock["after"] = (ms, run, ...rest) => {
    if (ms < 30_000) return systemClock.after(ms, run, ...rest);
    const once = () => {
      later.delete(once);
      run();
    };
    later.add(once);
    return { stop: () => void later.delete(once) };
  };
  return { clock: { ...systemClock, after }, pass: () => [...later].map(run => run()) };
}

test("nodes begin at different hosts, each with all its connections at one", async () => {
  const begun = await Promise.all(Array.from({ length: 8 }, (_, n) => started(`node-${n}`)));
  const where = begun.map(courier => places(courier).join());
  expect(new Set(where)).toEqual(new Set(["0,0", "1,1"]));
  // By its name, so that it is the same after a restart.
  await begun[0]?.close(0);
  expect(places(await started("node-0")).join()).toBe(where[0]);
});

test("a host that is lost is not tried first again: it may accept connections and answer nothing", async () => {
  const courier = await started("node-1");
  const [home = 0] = places(courier);
  const { until } = await collect(courier, { name: queue }, { ack: true });
  hosts[home]?.hold();
  const accepted = hosts[home]?.accepted;
  const down = next(courier, "down");
  hosts[home]?.reset();
  await down;
  await at(courier, 1 - home);
  expect(hosts[home]?.accepted).toBe(accepted);
  expect((await courier.publish(publication({ queue }, "m1"))).outcome).toBe("confirmed");
  expect((await until(1))[0]?.messageId).toBe("m1");
});

test("a host from which no confirm comes is left by all connections, and consumers get their messages elsewhere", async () => {
  const courier = await started("node-1", { confirmTimeoutMs: 1000, heartbeatS: 60 });
  const [home = 0] = places(courier);
  const { until, ids } = await collect(courier, { name: queue }, { ack: true });
  hosts[home]?.hold();
  const lost = await courier.publish(publication({ queue }, "m1"));
  expect(lost).toMatchObject({ outcome: "unknown", reason: expect.stringContaining("no confirm") });
  await at(courier, 1 - home);
  expect((await courier.publish(publication({ queue }, "m2"))).outcome).toBe("confirmed");
  await until(1);
  await eventually(() => ids().includes("m2"));
});

test("a node without publishes asks its host from time to time, tells that it has no answer, and goes to the next", async () => {
  const courier = await started("node-1", { heartbeatS: 60 });
  const [home = 0] = places(courier);
  hosts[home]?.hold();
  await eventually(() => courier.status().unansweredMs > 0);
  await at(courier, 1 - home);
  await eventually(() => courier.status().unansweredMs === 0);
});

test("where no host gives confirms, consumers are moved once and then left with what they have in hand", async () => {
  const courier = await started("node-1", { confirmTimeoutMs: 500, heartbeatS: 60 });
  const { deliveries, until } = await collect(courier, { name: queue });
  await courier.publish(publication({ queue }, "m1"));
  await until(1);
  for (const host of hosts) host.hold();
  const again = async () => {
    const { reconnects } = courier.status();
    await courier.publish(publication({ queue })).catch(() => undefined);
    for (const host of hosts) host.release();
    await eventually(
      () => courier.ready && courier.status().consume.connected && courier.status().reconnects > reconnects
    );
    return courier.status().consume.since;
  };
  const first = await again();
  await until(2);
  for (const host of hosts) host.hold();
  expect(await again()).toEqual(first);
  // The second time its channel was left.
  expect(deliveries.at(-1)?.live).toBe(true);
});

describe("declares that are not answered", () => {
  test("hold a start for some seconds only, and another host is tried", async () => {
    const { clock } = atOnce();
    const before = await started("node-1", { clock });
    const [home = 0] = places(before);
    await before.close(0);
    // Connections open, and a change is not answered, as by a node of RabbitMQ that is cut off from the others.
    hosts[home]?.swallow(`${namespace}.reliable.control.`);
    const courier = new AmqpCourier({ urls: addresses(), namespace, nodeID: "node-1", logger, clock });
    couriers.push(courier);
    const since = performance.now();
    await courier.start();
    const { until } = await collect(courier, { name: queue }, { ack: true });
    expect(performance.now() - since).toBeLessThan(12_000);
    await at(courier, 1 - home);
    expect((await courier.publish(publication({ queue }, "m1"))).outcome).toBe("confirmed");
    await until(1);
  });
});

describe("a node that is away from its host", () => {
  test("goes back when that answers again; what is under way ends, nothing comes twice and no publish is lost", async () => {
    const { clock, pass } = atOnce();
    const courier = await started("node-1", { clock, confirmTimeoutMs: 20_000 });
    const [home = 0] = places(courier);
    const { until, deliveries, ids } = await collect(courier, { name: queue }, { prefetch: 10 });
    await hosts[home]?.down();
    await at(courier, 1 - home);
    pass();
    // It is not there yet.
    await eventually(() => logger.lines.some(line => line.includes("does not take this node yet")));
    expect(places(courier)).toEqual([1 - home, 1 - home]);

    for (const id of ["m1", "m2"]) await courier.publish(publication({ queue }, id));
    const [slow, quick] = await until(2);
    quick?.ack();
    await hosts[home]?.up();
    const publishes: Promise<{ outcome: string }>[] = [];
    const load = setInterval(
      () => void publishes.push(courier.publish(publication({ queue }, `p${publishes.length}`))),
      1
    );
    pass();
    await eventually(() => places(courier).every(place => place === home));
    await eventually(() => publishes.length > 300);
    clearInterval(load);
    expect(outcomes((await Promise.all(publishes)) as never)).toEqual({ confirmed: publishes.length });
    // The consumer of before lives as long as what it has delivered is open.
    expect(slow?.live).toBe(true);
    const open = () => deliveries.slice(2).filter(delivery => delivery.ack());
    for (let acked = 0; new Set(ids()).size < 2 + publishes.length; acked = deliveries.length) {
      await until(Math.min(acked + 1, 2 + publishes.length));
      open();
    }
    expect(slow?.ack()).toBe(true);
    open();
    await eventually(async () => JSON.stringify(await courier.depth(queue)) === '{"ready":0,"consumers":1}');
    await eventually(() => hosts[1 - home]?.open === 0);
    expect(ids()).toHaveLength(new Set(ids()).size);
    expect(ids().filter(id => id === "m1")).toHaveLength(1);
  });
});
