import { connect } from "amqplib";
import { type BrokerOptions, ServiceBroker, type ServiceSchema } from "moleculer";
import type { Broker } from "../../mixins/broker";
import { ReliableDashboardService } from "../../mixins/dashboard";
import { nodeOf } from "../../mixins/node";
import { ReliableEmit, type ReliableOptions } from "../../src";
import { type HistoryRecord, minuteID } from "../../src/message/history";
import { systemQueues } from "../../src/wire/names";

export const NAMESPACE = "shop";
export const DATABASE = "reliable_screenshots";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** What the handlers depend on: broken for a part of the orders, until it is mended. */
const broken = { mail: true, addresses: true };

export interface World {
  /** Of the page. */
  url: string;
  /** A dead message, with groups that have handled it. */
  dead: string;
  /** The queues of the groups. */
  queues: string[];
  stop(): Promise<void>;
}

const asUser = (username: string) => ({ meta: { user: { username } } });

/** A shop in the night: some messages are dead of three causes, a group is paused, a bulk retry goes on. */
export async function startWorld(
  servers: { amqp: string; mongo: string; redis: string },
  port: number
): Promise<World> {
  const options: ReliableOptions = {
    ...servers,
    database: DATABASE,
    maxAttempts: 2,
    backoff: { initialMs: 50, maxMs: 200, jitter: "none" },
    sweepEveryMs: 200,
    refreshMs: 300
  };
  const mixins = [ReliableEmit(options)];
  const nodes = new Map(
    Object.entries(services(mixins)).map(([nodeID, schemas]) => {
      const broker = new ServiceBroker({
        nodeID,
        namespace: NAMESPACE,
        transporter: "Fake",
        logger: false
      } as BrokerOptions);
      for (const schema of schemas) broker.createService(schema);
      return [nodeID, broker];
    })
  );
  const desk = nodes.get("desk-1") as ServiceBroker;
  desk.createService(
    ReliableDashboardService({
      port,
      authentication: () => ({ username: "ops@night" }),
      badge: { text: "production", tone: "red" },
      traceUrl: "https://traces.shop.test/search?request={requestID}"
    })
  );
  for (const broker of nodes.values()) await broker.start();
  await until(async () => (await desk.call<unknown[], object>("reliable.subscriptions", {})).length === 6);
  await past(desk);
  await evening(desk);
  const { rows } = await desk.call<{ rows: { id: string }[] }, object>("reliable.list", {
    status: "dead",
    event: "order.created",
    group: "mail"
  });
  const queues = (await desk.call<{ queue: string }[], object>("reliable.subscriptions", {})).map(({ queue }) => queue);
  return {
    url: `http://127.0.0.1:${port}/`,
    dead: rows[3]?.id as string,
    queues,
    stop: async () => void (await Promise.all([...nodes.values()].map(broker => broker.stop())))
  };
}

type Handler = (ctx: { params: { n: number } }) => unknown;

function services(mixins: ServiceSchema["mixins"]): Record<string, ServiceSchema[]> {
  const on = (name: string, event: string, handler: Handler, more = {}) =>
    ({ name, mixins, events: { [event]: { reliable: true, handler, ...more } } }) as unknown as ServiceSchema;
  const mail = () =>
    on("mail", "order.created", ({ params: { n } }) => {
      if (broken.mail && n % 5 === 0)
        throw Object.assign(new Error("535 authentication failed"), { name: "MailError", code: "EAUTH" });
    });
  return {
    "desk-1": [{ name: "orders", mixins } as ServiceSchema],
    "mail-1": [mail()],
    "mail-2": [mail()],
    "stock-1": [on("stock", "order.created", () => undefined)],
    "labels-1": [
      on("labels", "order.shipped", ({ params: { n } }) => {
        if (broken.addresses && n % 4 === 0) throw new Error(`The address of order ${n} is not known to the carrier`);
      })
    ],
    "invoices-1": [
      on("invoices", "order.paid", ({ params: { n } }) => {
        if (n % 30 === 0) throw Object.assign(new Error("No VAT rate for country XI"), { type: "VAT_UNKNOWN" });
      }),
      on("crm", "customer.changed", () => undefined),
      on("search", "order.*", () => undefined)
    ]
  };
}

/** What nodes have counted before: a day, with a bad quarter of an hour at its end. */
async function past(broker: ServiceBroker): Promise<void> {
  const { history } = nodeOf(broker as Broker).runtime.needStorage().store;
  const now = Math.floor(Date.now() / MINUTE) * MINUTE;
  const record = (unit: "minute" | "hour", at: Date, ago: number): HistoryRecord => {
    const day = 1 - Math.cos(((at.getUTCHours() + at.getUTCMinutes() / 60) / 12) * Math.PI) / 2;
    const emitted = Math.round((18 + 40 * day + 5 * Math.sin(ago * 1.7)) * (unit === "hour" ? 60 : 1));
    const failed = unit === "minute" && ago < 15 ? Math.round(emitted / 5) : 0;
    const times = [0, 4, 9, emitted >> 1, emitted >> 2, 5, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const rows = [
      { event: "order.created", emitted, confirmed: emitted },
      { event: "order.created", group: "mail", handled: emitted - failed, failed, dead: failed >> 1, times },
      { event: "order.created", group: "stock", handled: emitted, times }
    ] as HistoryRecord["rows"];
    const _id = unit === "hour" ? `hour|${at.toISOString()}|mail-1` : minuteID(at, "mail-1", "earlier");
    return { _id, unit, at, nodeID: "mail-1", rows };
  };
  const minutes = Array.from({ length: 23 * 60 }, (_, i) => record("minute", new Date(now - (i + 1) * MINUTE), i));
  const hours = Array.from({ length: 120 }, (_, i) => {
    return record("hour", new Date(Math.floor(now / HOUR) * HOUR - (i + 25) * HOUR), i);
  });
  await history.add(minutes);
  await history.add(hours);
}

async function evening(desk: ServiceBroker): Promise<void> {
  await desk.call("reliable.pause", { group: "crm", note: "the CRM moves to its new servers" }, asUser("emma"));
  const service = desk.getLocalService("orders") as unknown as {
    reliableEmit(event: string, payload: object, options: object): Promise<unknown>;
  };
  for (let n = 1; n <= 240; n++) {
    const keys = { order: `${4000 + n}`, customer: `c-${n % 17}` };
    const order = { n, order: 4000 + n, total: 12.5 * (n % 9), customer: { id: `c-${n % 17}`, city: "Uppsala" } };
    const id = `order-${4000 + n}`;
    await service.reliableEmit("order.created", order, { keys, id });
    if (n % 2 === 0) await service.reliableEmit("order.shipped", { n, carrier: "north" }, { keys });
    if (n % 3 === 0) await service.reliableEmit("order.paid", { n, amount: order.total }, { keys });
    if (n % 12 === 0) await service.reliableEmit("customer.changed", { n, id: `c-${n % 17}` }, { keys });
  }
  await rubbish();
  const dead = async (event: string) =>
    await desk.call<{ rows: { id: string }[]; total: number }, object>("reliable.list", { status: "dead", event });
  await until(async () => {
    const counts = await Promise.all(["order.created", "order.shipped", "order.paid"].map(dead));
    return counts.map(({ total }) => total).join() === "48,60,8";
  });
  const [first, second] = (await dead("order.paid")).rows.map(({ id }) => id);
  await desk.call("reliable.resolve", { id: first, note: "invoiced by hand" }, asUser("emma"));
  await desk.call("reliable.discard", { id: second, note: "a test order of ours" }, asUser("ops@day"));
  broken.addresses = false;
  await desk.call(
    "reliable.bulk",
    { act: "retry", event: "order.shipped", note: "the carrier's register is back", perSecond: 1 },
    asUser("emma")
  );
  await until(async () => {
    const { rows } = await desk.call<{ rows: { done: number }[] }, object>("reliable.bulks", {});
    return (rows[0]?.done ?? 0) > 10;
  });
}

/** Of a program that writes to the wrong queue. */
async function rubbish(): Promise<void> {
  const connection = await connect(process.env["AMQP_URL"] as string);
  const channel = await connection.createConfirmChannel();
  const queue = systemQueues(NAMESPACE).receipts;
  const bodies = ['{"order":4711', "status=shipped&order=4012", "\u0000\u0001\u0002"];
  for (const [n, body] of bodies.entries())
    channel.sendToQueue(queue, Buffer.from(body), { messageId: `legacy-${n}`, type: "order.status", appId: "erp" });
  await channel.waitForConfirms();
  await connection.close();
}

async function until(holds: () => Promise<boolean>, forMs = 120_000): Promise<void> {
  for (const end = Date.now() + forMs; Date.now() < end; await new Promise(resolve => setTimeout(resolve, 100)))
    if (await holds()) return;
  throw new Error(`not so within ${forMs / 1000} s: ${holds}`);
}
