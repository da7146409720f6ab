import { inspect } from "node:util";
import { Redis } from "ioredis";
import { expect, it } from "vitest";
import { type ReliableOptions, reliableReplCommands } from "../../src";
import { reliableCommand } from "../../src/operator/repl/command";
import { cluster, text, until } from "../support/brokers";
import { ownServer } from "../support/own-servers";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, subscribed } from "../support/services";

/** With everything a URL, a regular expression and a person stumble over. */
const SECRETS = { amqp: "rabb1t/s3cret:@?#%&=ü", redis: "red1s/s3cret:@?#%&=ü", mongo: "m0ngo/s3cret:@?#%&=ü" };
const WRONG = "wr0ng/s3cret:@";

/** Every form in which a password of ours could stand somewhere. */
function forms(secret: string): string[] {
  const whole = (at: string) => [
    at,
    encodeURIComponent(at),
    encodeURI(at),
    Buffer.from(at).toString("base64").replace(/=+$/, ""),
    JSON.stringify(at).slice(1, -1)
  ];
  // SASL PLAIN; and any piece of it by which it would be known.
  const plain = (user: string) => Buffer.from(`\0${user}\0${secret}`).toString("base64").replace(/=+$/, "");
  return [
    ...whole(secret),
    plain("reliable"),
    Buffer.from(secret).toString("hex"),
    secret.slice(0, secret.indexOf("/")),
    "s3cret"
  ];
}

const ALL = [...Object.values(SECRETS), WRONG].flatMap(forms);

function leaks(lines: string[]): string[] {
  return lines.flatMap(line =>
    ALL.filter(form => line.includes(form)).map(form =>
      line.slice(Math.max(0, line.indexOf(form) - 300), line.indexOf(form) + 100)
    )
  );
}

const at = (url: string, user: string, password: string) =>
  url.replace(/\/\/([^@/]*@)?/, `//${user}:${encodeURIComponent(password)}@`);

it("no password is ever logged, told or thrown: start, emits, REPL, crashes and changed passwords", {
  timeout: 400_000
}, async () => {
  const rabbitmq = await ownServer("rabbitmq");
  const redis = await ownServer("redis");
  const admin = new Redis(redis.url, { retryStrategy: () => 100, maxRetriesPerRequest: null });
  admin.on("error", () => undefined);
  const user = async () => {
    await rabbitmq
      .ctl("-q", "add_user", "reliable", SECRETS.amqp)
      .catch(() => rabbitmq.ctl("-q", "change_password", "reliable", SECRETS.amqp));
    await rabbitmq.ctl("-q", "set_permissions", "reliable", ".*", ".*", ".*");
  };
  await user();
  await admin.config("SET", "requirepass", SECRETS.redis);

  const { broker, mixin, logs } = cluster();
  const told: string[] = [];
  const options: ReliableOptions = {
    amqp: at(rabbitmq.url, "reliable", SECRETS.amqp),
    redis: at(redis.url, "", SECRETS.redis),
    leaseMs: 900
  };
  const node = broker("node-1", {
    metrics: true,
    tracing: { enabled: true, exporter: { type: "Event", options: { eventName: "$spans" } } },
    replOptions: { customCommands: reliableReplCommands }
  } as never);
  let fail = true;
  node.createService(
    consumer(mixin(options), "stock", "order.created", () => {
      if (fail) throw new Error("out of stock");
    })
  );
  node.createService(emitter(mixin(options)));
  node.createService({
    name: "ears",
    settings: {},
    events: {
      "**": (ctx: { eventName: string; params: unknown }) => void told.push(`${ctx.eventName} ${text(ctx.params)}`),
      "$**": (ctx: { eventName: string; params: unknown }) => void told.push(`${ctx.eventName} ${text(ctx.params)}`)
    }
  } as never);
  const look = async () => {
    for (const action of ["stats", "health", "list", "subscriptions", "parked", "audits"])
      told.push(text(await node.call(`reliable.${action}`, {}).catch((error: unknown) => error)));
    for (const what of ["overview", "list", "health", "subscriptions"])
      told.push(await reliableCommand(node, { what }));
    for (const action of ["$node.services", "$node.list", "$node.actions", "$node.events", "$node.metrics"])
      told.push(JSON.stringify(await node.call(action, { withActions: true, withEvents: true })));
    // A service that somebody logs.
    told.push(inspect(node.getLocalService("stock"), { depth: 2 }));
  };
  await node.start();
  await subscribed(node, 1);
  const emit = emitterOf(node);
  told.push(
    text(
      await emit("order.created", { n: 1 }, { waitFor: "consumed", maxAttempts: 1 }).catch((error: unknown) => error)
    )
  );
  fail = false;
  await emit("order.created", { n: 2 }, { waitFor: "consumed" });
  await look();

  // Both away, then back: Redis without a password first, then with another one; RabbitMQ's is changed.
  await Promise.all([rabbitmq.kill(), redis.kill()]);
  await until(
    () => node.call<{ ok: boolean; redis: string }, object>("reliable.health", {}),
    ({ ok, redis: state }) => !ok && state === "down"
  );
  told.push(
    text(
      await emit("order.created", { n: 3 }, { waitFor: "confirmed", timeoutMs: 200 }).catch((error: unknown) => error)
    )
  );
  told.push(
    text(
      await emit("order.created", { n: 4 }, { strategy: "callback", timeoutMs: 200 }).catch((error: unknown) => error)
    )
  );
  await look();
  await Promise.all([rabbitmq.start(), redis.start()]);
  await until(
    () => node.call<{ ok: boolean }, object>("reliable.health", {}),
    ({ ok }) => ok,
    30_000
  );
  await admin.config("SET", "requirepass", WRONG);
  await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  await rabbitmq.ctl("-q", "change_password", "reliable", WRONG);
  await rabbitmq.ctl("-q", "close_all_connections", "a test");
  await until(() => logs.some(line => line.includes("refused user or password")), Boolean, 30_000);
  await until(() => logs.some(line => /WRONGPASS|NOAUTH/.test(line)), Boolean, 30_000);
  await look();
  admin.disconnect();

  // Starts that are refused.
  const mongo = at(urls().mongo, "reliable", SECRETS.mongo);
  const refusals: ReliableOptions[] = [
    { ...options },
    {
      ...options,
      amqp: [at(rabbitmq.url, "reliable", SECRETS.amqp), at(rabbitmq.url, "nobody", WRONG)],
      redis: undefined
    },
    { ...options, amqp: `${at(rabbitmq.url, "reliable", WRONG)}/nowhere`, redis: undefined },
    { ...options, amqp: undefined, path: undefined, redis: at(redis.url, "nobody", SECRETS.redis) },
    { mongo },
    { mongo: `${mongo}&authMechanism=PLAIN&authSource=$external` },
    { mongo: `${mongo}&nonsense=1` },
    { mongo: mongo.replace(encodeURIComponent(SECRETS.mongo), "%E0%A4%A" + "s3cret") }
  ];
  const types: unknown[] = [];
  for (const [i, given] of refusals.entries()) {
    const { broker: other, mixin: theirs, logs: lines } = cluster();
    const refused = other(`refused-${i}`);
    const error = await (async () => {
      refused.createService(emitter(theirs({ ...given })));
      await refused.start();
    })().catch((thrown: unknown) => thrown);
    types.push((error as { type?: unknown })?.type);
    told.push(text(error), inspect(error, { depth: 10, showHidden: true, getters: true }), ...lines);
  }
  // The gateway knows no authentication: what it makes of the fifth and the sixth is a failed command, not a refusal,
  // and is tried again.
  const refused = "RELIABLE_ACCESS_REFUSED";
  expect(types).toEqual([
    refused,
    refused,
    refused,
    refused,
    undefined,
    undefined,
    "RELIABLE_BAD_OPTION",
    "RELIABLE_BAD_OPTION"
  ]);
  expect(told.filter(line => /MongoDB: connect failed/.test(line))).not.toEqual([]);

  await node.stop();
  expect(logs.length).toBeGreaterThan(100);
  expect(told.some(line => line.startsWith("$reliable.error"))).toBe(true);
  expect(leaks(logs)).toEqual([]);
  expect(leaks(told)).toEqual([]);
});

it.each([
  "amqp://reliable:rabb1t/s3cret@localhost",
  "amqp://reliable:rabb1t?s3cret@localhost",
  "amqp://reliable:rabb1t#s3cret@localhost",
  "amqp://reliable:100%s3cret@localhost",
  "amqps://s3cret/@@localhost"
])("a URL in which %s was not encoded is refused without telling a piece of it", async amqp => {
  const { broker, mixin, logs } = cluster();
  const node = broker("node-1");
  const error = await (async () => {
    node.createService(emitter(mixin({ amqp })));
    await node.start();
  })().catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    data: { option: "amqp" },
    message: expect.stringContaining("percent-encod")
  });
  expect(leaks([...logs, text(error)])).toEqual([]);
});
