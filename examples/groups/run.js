"use strict";

// Who gets what: groups, instances of a group, wildcards, and an emit for some groups only: node examples/groups/run.js
const { ReliableEmit } = require("moleculer-reliable-emit");
const { print } = require("../orders/report");
const { groupsKnown, node, options, run } = require("../world");

const seen = [];

const listener = (name, pattern, more = {}) => ({
  name,
  mixins: [ReliableEmit(options)],
  events: {
    [pattern]: {
      reliable: true,
      ...more,
      handler(ctx) {
        seen.push({ event: ctx.eventName, group: ctx.locals.reliable.group, node: ctx.broker.nodeID });
      }
    }
  }
});

const shop = { name: "shop", mixins: [ReliableEmit(options)] };

run("groups", async namespace => {
  const one = await node(namespace, "node-1", [
    shop,
    listener("stock", "order.created"),
    // The service's name is its group, unless the event says otherwise.
    listener("mail", "order.*"),
    listener("ledger", "order.**", { group: "bookkeeping" }),
    listener("archive", "**")
  ]);
  // A second instance of `mail`: the two share one queue, and each message goes to one of them.
  const two = await node(namespace, "node-2", [listener("mail", "order.*")]);
  await groupsKnown(one, 4);

  const service = one.getLocalService("shop");
  const emit = (event, more) => service.reliableEmit(event, {}, { waitFor: "consumed", ...more });
  await emit("order.created");
  await emit("order.item.returned");
  await emit("invoice.sent");
  await emit("order.paid", { groups: ["mail"] });
  await Promise.all(Array.from({ length: 10 }, () => emit("order.packed", { groups: "mail" })));

  const events = ["order.created", "order.item.returned", "invoice.sent", "order.paid"];
  print([
    ["emitted", "handled by"],
    ...events.map(event => [
      event,
      seen
        .filter(entry => entry.event === event)
        .map(({ group }) => group)
        .sort()
        .join("  ")
    ])
  ]);
  const packed = seen.filter(({ event }) => event === "order.packed");
  console.log(
    `10 times order.packed for mail: handled ${packed.length} times, by ${[...new Set(packed.map(entry => entry.node))].sort().join(" and ")}.`
  );
  return [one, two];
});
