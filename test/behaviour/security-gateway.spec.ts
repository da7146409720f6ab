import { createRequire } from "node:module";
import { ServiceBroker, type ServiceSchema } from "moleculer";
import { expect, it } from "vitest";
import { ReliableService } from "../../src";
import { RESEND_ACTION } from "../../src/wire/resend";
import { cluster } from "../support/brokers";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";

// moleculer-web has a version for each line.
const web = createRequire(__filename)(
  ServiceBroker.MOLECULER_VERSION.startsWith("0.14") ? "moleculer-web-010" : "moleculer-web"
) as ServiceSchema & { default?: ServiceSchema };

interface Gateway {
  _server?: unknown;
  server: { address(): { port: number } };
}

/** A gateway as its README shows it, with one route. */
function gateway(route: object): ServiceSchema {
  return {
    name: "api",
    mixins: [web.default ?? web],
    settings: { port: 0, ip: "127.0.0.1", routes: [{ path: "/api", bodyParsers: { json: true }, ...route }] }
  } as unknown as ServiceSchema;
}

const ACTIONS = [
  "stats",
  "health",
  "subscriptions",
  "list",
  "causes",
  "get",
  "statuses",
  "parked",
  "audits",
  "retry",
  "resolve",
  "discard",
  "sweep",
  "forget",
  "bulk",
  "bulks",
  "bulkChange",
  "bulkLook"
];

/** Every way in which such a route would reach an action. */
const paths = (action: string) =>
  [
    ["GET", `/api/${action.replace(".", "/")}`],
    ["POST", `/api/${action.replace(".", "/")}`],
    ["POST", `/api/${action}`],
    ["GET", `/api/~${action}`],
    ["DELETE", `/api/${action.replace(".", "%2F")}`]
  ] as const;

it.each<[string, object]>([
  ["a default route", {}],
  ["every action by name", { mappingPolicy: "all" }],
  ["a whitelist of everything", { mappingPolicy: "all", whitelist: ["**"] }],
  [
    "a whitelist of ours",
    { mappingPolicy: "all", whitelist: [/^reliable\./, `orders.${RESEND_ACTION}`, "emitter.*", "hello.*"] }
  ],
  ["generated aliases", { autoAliases: true, mappingPolicy: "all", whitelist: ["**"] }],
  [
    "aliases for them by name",
    {
      aliases: Object.fromEntries(
        ["hello.world", ...ACTIONS.map(action => `reliable.${action}`), `emitter.${RESEND_ACTION}`].flatMap(action => [
          [`GET ${action.replace(".", "/")}`, action],
          [`POST ${action.replace(".", "/")}`, action]
        ])
      )
    }
  ]
])("an API gateway with %s reaches none of the operators' actions, nor the producers'", async (_, route) => {
  const made = cluster();
  const broker = await made.node("node-1", [
    emitter(made.mixin()),
    { name: "hello", actions: { world: () => "hello" } },
    gateway({ ...route })
  ]);
  // The other node's as little as its own.
  await made.node("node-2", [{ name: "orders", mixins: [made.mixin()] }]);
  await emitterOf(broker)("nobody.listens", {}, { groups: "nobody", unroutableMs: 0, maxAttempts: 1, id: "dead-one" });
  await reaches(broker, "dead-one", "dead");
  const { port } = (broker.getLocalService("api") as unknown as Gateway).server.address();
  const ask = async (method: string, path: string) =>
    (
      await fetch(`http://127.0.0.1:${port}${path}?id=dead-one`, {
        method,
        ...(method === "POST" && {
          body: JSON.stringify({ id: "dead-one" }),
          headers: { "content-type": "application/json" }
        })
      })
    ).status;
  // The gateway does serve: it is not for a mistake in this test that nothing comes.
  expect(await ask("GET", "/api/hello/world")).toBe(200);
  const answers: string[] = [];
  for (const action of [
    ...ACTIONS.map(name => `reliable.${name}`),
    `emitter.${RESEND_ACTION}`,
    `orders.${RESEND_ACTION}`
  ]) {
    for (const [method, path] of paths(action)) {
      const status = await ask(method, path);
      if (status !== 404) answers.push(`${method} ${path}: ${status}`);
    }
  }
  expect(answers).toEqual([]);
  // While from within, and from any node, they can be called.
  expect(await broker.call("reliable.retry", { id: "dead-one", dryRun: true })).toMatchObject({ matched: 1 });
  expect((await reaches(broker, "dead-one", "dead")).status).toBe("dead");
});

it("published on purpose, one of them is reached and the others are not", async () => {
  const made = cluster();
  const desk = {
    name: "reliable",
    mixins: [ReliableService(made.options())],
    actions: { stats: { visibility: "published" } }
  } as unknown as ServiceSchema;
  const broker = await made.node("node-1", [
    desk,
    consumer(made.mixin(), "stock", "order.created", () => undefined),
    gateway({ aliases: { "GET stats": "reliable.stats", "GET health": "reliable.health" } })
  ]);
  await subscribed(broker, 1);
  const { port } = (broker.getLocalService("api") as unknown as Gateway).server.address();
  const stats = await fetch(`http://127.0.0.1:${port}/api/stats`);
  expect([stats.status, await stats.json()]).toEqual([200, expect.objectContaining({ dead: 0, nodeID: "node-1" })]);
  expect((await fetch(`http://127.0.0.1:${port}/api/health`)).status).toBe(404);
});
