"use strict";

// Retries until it is dead, then what a human can do about it: node examples/manual-compensation/run.js
const { ReliableEmit } = require("moleculer-reliable-emit");
const { dead, print, story } = require("../orders/report");
const { groupsKnown, node, options, run, until } = require("../world");

const mailboxes = new Set(["ann@example.test"]);

const shop = { name: "shop", mixins: [ReliableEmit({ ...options, maxAttempts: 2 })] };

const mail = {
  name: "mail",
  mixins: [ReliableEmit(options)],
  events: {
    "order.created": {
      reliable: true,
      handler(ctx) {
        if (!mailboxes.has(ctx.params.to)) throw new Error(`550 no such mailbox: ${ctx.params.to}`);
        console.log(`  mail to ${ctx.params.to} sent`);
      }
    }
  }
};

run("manual-compensation", async namespace => {
  const broker = await node(namespace, "node-1", [shop, mail]);
  await groupsKnown(broker, 1);
  const addresses = {
    "order-1": "ann@example.test",
    "order-2": "bob@example.test",
    "order-3": "emma@exmaple.test",
    "order-4": "test@test.test"
  };
  for (const [id, to] of Object.entries(addresses))
    await broker.getLocalService("shop").reliableEmit("order.created", { to }, { id });

  const list = status => broker.call("reliable.list", { status });
  await until(async () => (await list("dead")).total === 3);
  console.log("\nAfter two attempts each, three messages wait for a human (REPL: reliable list --status dead):");
  dead((await list("dead")).rows.reverse());

  console.log("Bob's mailbox is there now: retry, with a fresh budget.");
  mailboxes.add("bob@example.test");
  await broker.call("reliable.retry", { id: "order-2", note: "mailbox added", by: "ann" });
  await until(async () => (await list("consumed")).total === 2);
  console.log("Emma was written to on paper: resolve. The last was a test: discard, which leaves an audit record.");
  await broker.call("reliable.resolve", { id: "order-3", note: "letter sent", by: "ann" });
  await broker.call("reliable.discard", { id: "order-4", note: "a test", by: "ann" });

  story(await broker.call("reliable.get", { id: "order-2" }));
  const { rows } = await list("consumed,dead,resolved");
  const { rows: acts } = await broker.call("reliable.audits");
  print([
    ["id", "in the end"],
    ...rows.reverse().map(({ id, status }) => [id, status]),
    ...acts.filter(({ act }) => act === "discard").map(({ id, act, by, note }) => [id, `${act} by ${by}: ${note}`])
  ]);
  return [broker];
});
