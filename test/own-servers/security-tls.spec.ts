import type { Context } from "moleculer";
import { expect, it } from "vitest";
import type { ReliableError, ReliableOptions } from "../../src";
import { cluster } from "../support/brokers";
import { certificates, terminator } from "../support/certificates";
import { ownServer } from "../support/own-servers";
import { urls } from "../support/servers";
import { subscribed } from "../support/services";

const SERVERS = ["amqp", "mongo", "redis"] as const;
type Server = (typeof SERVERS)[number];
type Tls = Record<string, unknown>;

/** The option of one server at a TLS port; the password is never right and never needed, but on RabbitMQ. */
function secured(server: Server, port: number, tls: Tls | undefined, host = "localhost"): ReliableOptions {
  if (server === "amqp") return { amqp: { urls: `amqps://guest:guest@${host}:${port}`, ...(tls && { tls }) } };
  if (server === "redis") return { redis: { url: `rediss://${host}:${port}`, ...(tls && { tls }) } };
  // The gateway tells its own address as the replica set's, which has no TLS.
  return { mongo: { url: `mongodb://${host}:${port}/?directConnection=true&tls=true`, ...(tls && { tls }) } };
}

it("a message makes its way with TLS to all three servers: RabbitMQ's and Redis' own, a terminator before the MongoDB gateway", {
  timeout: 400_000
}, async () => {
  const made = await certificates();
  const rabbitmq = await ownServer("rabbitmq", { tls: made.folder });
  const redis = await ownServer("redis", { tls: made.folder });
  const ports = { amqp: rabbitmq.tlsPort, mongo: await terminator(made, urls().mongo), redis: redis.tlsPort };
  const { node, mixin, logs } = cluster();
  const options = Object.assign(
    {},
    ...SERVERS.map(server => secured(server, ports[server], { ca: made.ca }))
  ) as ReliableOptions;
  const handled: unknown[] = [];
  const broker = await node("secure", [
    {
      name: "stock",
      mixins: [mixin(options)],
      events: { "order.created": { reliable: true, handler: (ctx: Context) => void handled.push(ctx.params) } }
    },
    {
      name: "orders",
      mixins: [mixin(options)],
      actions: {
        create(this: { reliableEmit(...args: unknown[]): unknown }) {
          return this.reliableEmit("order.created", { n: 1 }, { waitFor: "consumed", groups: "stock" });
        }
      }
    }
  ]);
  await subscribed(broker, 1);
  expect(await broker.call("orders.create", {})).toMatchObject({ status: "consumed" });
  expect(handled).toEqual([{ n: 1 }]);
  expect(await broker.call("reliable.health", {})).toMatchObject({
    ok: true,
    publish: `up (localhost:${ports.amqp})`,
    redis: `up (localhost:${ports.redis})`,
    sweeping: "held"
  });
  expect(
    (await rabbitmq.ctl("-q", "list_connections", "ssl")).split("\n").filter(line => line === "true")
  ).toHaveLength(3);
  expect(logs.filter(line => / (warn|error) /.test(line))).toEqual([]);
});

it("the chain of another authority, a foreign name and an expired certificate end the start, by name, in time, and without a word about credentials", {
  timeout: 400_000
}, async () => {
  const good = await certificates();
  const other = await certificates();
  const expired = await certificates({ days: -1 });
  const elsewhere = await certificates({ names: "DNS:elsewhere.example" });
  const real = {
    amqp: await ownServer("rabbitmq", { tls: good.folder }),
    redis: await ownServer("redis", { tls: good.folder })
  };
  const plain = { amqp: real.amqp.url, redis: real.redis.url, mongo: urls().mongo };
  const mongo = await terminator(good, plain.mongo);
  const cases: [string, Server, number, Tls | undefined, RegExp][] = [];
  for (const server of SERVERS) {
    const port = server === "mongo" ? mongo : real[server].tlsPort;
    cases.push(["another authority", server, port, { ca: other.ca }, /certificate/]);
    cases.push(["an authority that Node.js does not know", server, port, undefined, /certificate/]);
    cases.push(["expired", server, await terminator(expired, plain[server]), { ca: expired.ca }, /expired/]);
    cases.push([
      "foreign name",
      server,
      await terminator(elsewhere, plain[server]),
      { ca: elsewhere.ca },
      /altnames|does not match/
    ]);
    // The other two never answer a handshake: to us they are down.
    if (server === "amqp")
      cases.push([
        "no TLS at all",
        server,
        Number(new URL(plain[server]).port),
        { ca: good.ca },
        /wrong version|packet length/i
      ]);
  }
  const seen = await Promise.all(
    cases.map(async ([what, server, port, tls, why]) => {
      const { broker, mixin, logs } = cluster();
      const refused = broker("refused");
      refused.createService({ name: "orders", mixins: [mixin(secured(server, port, tls))] });
      const started = performance.now();
      const error: Partial<ReliableError> & Error = await refused.start().then(
        () => new Error(`started: ${logs.join()}`),
        (thrown: ReliableError) => thrown
      );
      return {
        what,
        server,
        type: error.type,
        retryable: error.retryable,
        option: (error.data as Tls)?.option,
        address: (error.data as Tls)?.address,
        why: why.test(error.message) || error.message,
        ms: performance.now() - started < 20_000
      };
    })
  );
  expect(seen).toEqual(
    cases.map(([what, server, port]) => ({
      what,
      server,
      type: "RELIABLE_TLS_FAILED",
      retryable: false,
      option: server,
      address: `localhost:${port}`,
      why: true,
      ms: true
    }))
  );
});

it("one host with a bad certificate does not keep the node from another with a good one", {
  timeout: 400_000
}, async () => {
  const good = await certificates();
  const other = await certificates();
  const rabbitmq = await ownServer("rabbitmq", { tls: good.folder });
  const bad = await terminator(other, rabbitmq.url);
  const { node, mixin, logs } = cluster();
  // Two hosts of one cluster, one of them with a certificate of another authority: the other one serves.
  const broker = await node("half", [
    {
      name: "orders",
      mixins: [
        mixin({
          amqp: {
            urls: [`amqps://guest:guest@localhost:${bad}`, `amqps://guest:guest@localhost:${rabbitmq.tlsPort}`],
            tls: { ca: good.ca }
          }
        })
      ]
    }
  ]);
  expect(await broker.call("reliable.health", {})).toMatchObject({
    ok: true,
    publish: `up (localhost:${rabbitmq.tlsPort})`
  });
  expect(logs.join("\n")).not.toContain("guest:guest");
});
