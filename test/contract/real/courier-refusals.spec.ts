import { afterEach, beforeEach, expect, test } from "vitest";
import { AmqpCourier } from "../../../src/couriers/amqp/courier";
import type { Publication } from "../../../src/couriers/courier";
import { systemClock } from "../../../src/platform/clock";
import { collect, eventually, outcomes, publication, recordingLogger, uniqueName } from "../../support/couriers";
import { atBroker, rabbitmqctl } from "../../support/rabbitmq";
import { urls } from "../../support/servers";
import { type TcpProxy, tcpProxy } from "../../support/tcp-proxy";

/** A publish that RabbitMQ answers by closing the channel or the connection: it alone may fail. */

let namespace: string;
let couriers: AmqpCourier[];
let proxies: TcpProxy[];
let q: string;

beforeEach(() => {
  namespace = uniqueName("refusal");
  q = `${namespace}.q`;
  couriers = [];
  proxies = [];
});

afterEach(async () => {
  await Promise.all(couriers.map(courier => courier.close(0)));
  await Promise.all(proxies.map(proxy => proxy.close()));
  await atBroker(async channel => {
    await channel.deleteQueue(q);
    await channel.deleteExchange(`${namespace}.reliable.events`);
  });
});

async function started(address: string): Promise<AmqpCourier> {
  const logger = recordingLogger();
  const courier = new AmqpCourier({ urls: address, namespace, nodeID: uniqueName("node"), logger, clock: systemClock });
  couriers.push(courier);
  await courier.start();
  return courier;
}

const good = (id: string) => publication({ event: "a" }, id);
/** RabbitMQ wants a list of routing keys there. Its text names neither message nor exchange. */
const bad = (id: string): Publication => ({ ...good(id), headers: { CC: "no list" } });

/** Publishes all at once, the bad ones among the good ones, and expects that only they are refused. */
async function onlyTheBadFail(courier: AmqpCourier, text: RegExp, badOne = bad): Promise<void> {
  const { ids } = await collect(courier, { name: q, bindings: ["#"] }, { ack: true });
  const all = Array.from({ length: 300 }, (_, i) => `m${i}`);
  const isBad = (id: string) => id === "m100" || id === "m101" || id === "m250";
  const results = await Promise.all(all.map(id => courier.publish(isBad(id) ? badOne(id) : good(id))));
  expect(outcomes(results)).toEqual({ confirmed: 297, refused: 3 });
  all.forEach((id, i) => {
    if (isBad(id)) expect(results[i]).toEqual({ outcome: "refused", reason: expect.stringMatching(text) });
  });
  expect(await courier.publish(good("last"))).toEqual({ outcome: "confirmed" });
  // Those before a bad one may have come twice.
  await eventually(() => new Set(ids()).size === 298);
  expect(new Set(ids())).toEqual(new Set([...all.filter(id => !isBad(id)), "last"]));
}

test("of a text that does not tell which one is meant: each goes again alone, until one is refused", async () => {
  const courier = await started(urls().amqp);
  await onlyTheBadFail(courier, /CC/);
  expect(courier.status()).toMatchObject({ reconnects: 0, inFlight: 0 });
});

test("of a text that names what is meant: the others go on at once", async () => {
  const [user, password] = [uniqueName("user"), "secret"];
  await rabbitmqctl("-q", "add_user", user, password);
  try {
    // The exchange must be there.
    await started(urls().amqp);
    await rabbitmqctl("-q", "set_permissions", user, ".*", ".*", ".*");
    await rabbitmqctl("-q", "set_topic_permissions", user, `${namespace}.reliable.events`, "^a$", ".*");
    const url = new URL(urls().amqp);
    Object.assign(url, { username: user, password });
    const courier = await started(url.href);
    const forbidden = (id: string) => ({ ...good(id), to: { event: "forbidden" } });
    await onlyTheBadFail(courier, /topic 'forbidden'/, forbidden);
    expect(courier.status()).toMatchObject({ reconnects: 0, inFlight: 0 });
    // Told until the same is taken again.
    expect(courier.status().denied).toMatch(/topic 'forbidden'/);
    await rabbitmqctl("-q", "clear_topic_permissions", user);
    await eventually(async () => (await courier.publish(forbidden("now"))).outcome !== "refused");
    expect(courier.status().denied).toBeUndefined();
  } finally {
    await rabbitmqctl("-q", "delete_user", user);
  }
});

/** A method frame on channel 0: connection.close with 541. */
function connectionClose(text: string): Buffer {
  const payload = Buffer.concat([
    Buffer.from([0, 10, 0, 50, 541 >> 8, 541 & 255, text.length]),
    Buffer.from(text),
    Buffer.alloc(4)
  ]);
  const head = Buffer.alloc(7);
  head[0] = 1;
  head.writeUInt32BE(payload.length, 3);
  return Buffer.concat([head, payload, Buffer.from([206])]);
}

test("that closes the whole connection: the same, and the others wait a moment only", async () => {
  const { hostname, port } = new URL(urls().amqp);
  const net = await tcpProxy({ host: hostname, port: Number(port) });
  proxies.push(net);
  net.answer("poison", connectionClose("INTERNAL_ERROR"));
  const url = new URL(urls().amqp);
  url.host = `127.0.0.1:${net.port}`;
  const courier = await started(url.href);
  await onlyTheBadFail(courier, /INTERNAL_ERROR/, id => ({ ...good(id), body: Buffer.from('"poison"') }));
  expect(courier.status().inFlight).toBe(0);
});

test("headers above the negotiated frame are refused before they are written; what fits, the broker takes", async () => {
  const courier = await started(`${urls().amqp}?frameMax=8192`);
  const { until } = await collect(courier, { name: q, bindings: ["#"] }, { ack: true });
  const withHeader = (length: number) =>
    courier.publish({ ...good(`m${length}`), headers: { big: "x".repeat(length) } });
  let largest = 9000;
  for (;;) {
    const result = await withHeader(largest).catch((error: unknown) => error);
    if (!(result instanceof Error)) {
      expect(result).toEqual({ outcome: "confirmed" });
      break;
    }
    expect(result).toMatchObject({ type: "RELIABLE_HEADERS_TOO_LARGE", message: expect.stringContaining("8192") });
    largest -= 20;
  }
  expect(largest).toBeGreaterThan(8000);
  await until(1);
  expect(courier.status().reconnects).toBe(0);
});
