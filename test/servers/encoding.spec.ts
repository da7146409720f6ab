import type { Context, Service } from "moleculer";
import { MongoClient } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import type { ReliableOptions } from "../../src";
import { cluster, until } from "../support/brokers";
import { startPython } from "../support/python";
import { atBroker } from "../support/rabbitmq";
import { storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, errorOf, oneNode, reaches, story, subscribed } from "../support/services";

/** As slow as a key server. */
const HOOKS: ReliableOptions = {
  async encode(payload) {
    await new Promise(resolve => setTimeout(resolve, 30));
    return { sealed: Buffer.from(JSON.stringify(payload)).toString("hex") };
  },
  decode: encoded => JSON.parse(Buffer.from((encoded as { sealed: string }).sealed, "hex").toString())
};

it("an emit in a transaction is encoded, and is stored with it or not at all", async () => {
  const made = cluster();
  const client = await new MongoClient(urls().mongo).connect();
  onTestFinished(() => client.close());
  const seen: unknown[] = [];
  const hooks = { mongo: client, ...HOOKS };
  const broker = await made.node("node-1", [
    emitter(made.mixin(hooks)),
    consumer(made.mixin(hooks), "mail", "order.created", ctx => void seen.push(ctx.params))
  ]);
  await subscribed(broker, 1);
  const emit = emitterOf(broker);
  const inTransaction = (id: string, end: () => void) =>
    client.withSession(session =>
      session.withTransaction(async () => {
        await emit("order.created", { id }, { id, session });
        end();
      })
    );
  await errorOf(
    inTransaction("undone", () => {
      throw new Error("too many pieces");
    })
  );
  await inTransaction("done", () => undefined);
  await reaches(broker, "done", "consumed");
  expect(seen).toEqual([{ id: "done" }]);
  expect(await storeOf(broker).messages.find(["undone"])).toEqual([]);
});

it("an emit that a handler does not await belongs to its transaction, though it is encoded first", async () => {
  const made = cluster();
  const runs: string[] = [];
  const billed: unknown[] = [];
  const stock = {
    name: "stock",
    mixins: [made.mixin({ ...HOOKS, inbox: "transaction" })],
    events: {
      "order.created": {
        reliable: true,
        async handler(this: Service, ctx: Context<{ order: number }>) {
          runs.push(`run ${runs.length + 1}`);
          void this.reliableEmit("bill.due", { of: runs.at(-1) }, { ctx }).catch(() => undefined);
          if (runs.length === 1) throw new Error("not yet");
        }
      }
    }
  };
  const bills = consumer(made.mixin(HOOKS), "bills", "bill.due", ctx => void billed.push(ctx.params));
  const { broker, emit } = await oneNode(made, [stock, bills]);
  await subscribed(broker, 2);
  const { id } = await emit("order.created", { order: 1 });
  await reaches(broker, id, "consumed");
  await until(() => billed.length);
  expect(billed).toEqual([{ of: "run 2" }]);
});

it("a group in another language that cannot decode says so, and is asked again", async () => {
  const made = cluster();
  const broker = await made.node("node-1", [emitter(made.mixin({ ...HOOKS, maxAttempts: 2 }))]);
  const queue = `${made.namespace}.reliable.on.invoices/order.created`;
  onTestFinished(async () => void (await atBroker(channel => channel.deleteQueue(queue))));
  const python = startPython(["consumer.py"], { AMQP_URL: urls().amqp, NAMESPACE: made.namespace });
  await python.says("consuming");
  await subscribed(broker, 1);
  const { id } = await emitterOf(broker)("order.created", { order: 1 });
  await reaches(broker, id, "dead");
  expect((await story(broker, id)).groups).toMatchObject([
    { group: "invoices", attempts: 2, reason: expect.stringContaining("the payload is encoded") }
  ]);
});
