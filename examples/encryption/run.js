"use strict";

// Payloads that only the services can read: node examples/encryption/run.js
const { randomBytes } = require("node:crypto");
const { ReliableEmit } = require("moleculer-reliable-emit");
const { print } = require("../orders/report");
const { groupsKnown, node, options, run, until } = require("../world");
const { hooks } = require("./keys");

run("encryption", async namespace => {
  // From your key management, that is: not from the code.
  const keys = { spring: randomBytes(32), summer: randomBytes(32) };
  const shopRing = { current: "spring", keys: { ...keys } };
  const mailRing = { keys: { spring: keys.spring } };
  const seen = [];

  const shop = { name: "shop", mixins: [ReliableEmit({ ...options, ...hooks(shopRing) })] };
  const mail = {
    name: "mail",
    mixins: [ReliableEmit({ ...options, ...hooks(mailRing) })],
    events: {
      "order.created": {
        reliable: true,
        // Checked after decoding.
        params: { order: "number", name: "string" },
        handler(ctx) {
          seen.push(ctx.params);
          console.log(`mail for ${ctx.params.name}, order ${ctx.params.order}`);
        }
      }
    }
  };
  const broker = await node(namespace, "node-1", [shop, mail]);
  await groupsKnown(broker, 1);
  const emit = (order, name) => broker.getLocalService("shop").reliableEmit("order.created", { order, name });

  const first = await emit(1, "Ann Smith");
  await until(() => seen.length === 1);

  // The key is changed at the producer before the consumer has the new one. It should be the other way round; but
  // nothing is lost.
  shopRing.current = "summer";
  const second = await emit(2, "Bob Jones");
  await until(async () =>
    (await broker.call("reliable.get", { id: second.id })).timeline.some(({ what }) => /failed/.test(what))
  );
  mailRing.keys.summer = keys.summer;
  await until(() => seen.length === 2);
  await until(async () => (await broker.call("reliable.list", { status: "consumed" })).total === 2);

  const table = [["", "key", "what the store has", "what the handler got"]];
  for (const { id } of [first, second]) {
    const { payload } = await broker.call("reliable.get", { id });
    table.push([`order ${table.length}`, payload.key, `${payload.data.slice(0, 20)}…`, seen[table.length - 1].name]);
  }
  console.log();
  print(table);
  const { timeline } = await broker.call("reliable.get", { id: second.id });
  for (const { what } of timeline) console.log(what);
  return [broker];
});
