import { openSync, writeSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { type BrokerOptions, type Context, ServiceBroker, type ServiceSchema } from "moleculer";
import type { ReliableLocals } from "../../mixins/reliable-context";
import {
  type EmitOptions,
  type QueueChannel,
  type QueueMessage,
  ReliableAmqpQueue,
  ReliableEmit,
  type ReliableOptions
} from "../../src";
import { onTold, tell } from "../support/parent";
import { runtimeOf } from "../support/runtime";
import { JOBS, LIVING } from "./load";

/** A node of the load, in a process of its own: `FUZZ_NODE` says which. */
export interface FuzzNode {
  role: "front" | "back";
  namespace: string;
  transporter: string;
  /** Lines as in `test/chaos/journal.ts`, and `S id group`: a handler was reached with a stranger's id. */
  journal: string;
  logs: string;
  options: ReliableOptions;
  /** Emits a second. */
  rate: number;
}

export interface Memory {
  heap: number;
  /** Bytes of buffers, beside the heap. */
  external: number;
  rss: number;
  /** Longest time in which the event loop did not turn, ms. */
  stall: number;
}

const { role, namespace, transporter, journal, logs, options, rate } = JSON.parse(
  process.env["FUZZ_NODE"] ?? "{}"
) as FuzzNode;
const file = openSync(journal, "a");
const now = () => process.hrtime.bigint() / 1000n;
const note = (...words: unknown[]) => void writeSync(file, `${words.join(" ")}\n`);

process.on("unhandledRejection", error => note("X", JSON.stringify(`unhandled: ${(error as Error)?.stack ?? error}`)));
process.on("uncaughtException", error => {
  note("X", JSON.stringify(`uncaught: ${error.stack}`));
  process.exit(70);
});

const broker = new ServiceBroker({
  namespace,
  nodeID: role,
  transporter,
  logger: { type: "File", options: { folder: logs, filename: `${role}.log`, level: "info", interval: 200 } }
} as BrokerOptions);

type Handler = (ctx: Context<{ n?: number } | null>) => unknown;

const localsOf = (ctx: Context<never>) => (ctx.locals as { reliable: ReliableLocals }).reliable;

/** A stranger's id may have any form: as JSON it is one line. */
function handled(id: string, group: string): void {
  if (id.startsWith(LIVING)) note("H", id, group, 0, now());
  else note("S", JSON.stringify([id, group]));
}

function group(name: string, pattern: string, inbox: boolean | "transaction", handler: Handler, more: object = {}) {
  const event = {
    reliable: { inbox },
    async handler(ctx: Context<never>) {
      const { id, group } = localsOf(ctx);
      await handler(ctx);
      handled(id, group);
    },
    ...more
  };
  broker.createService({
    name,
    mixins: [ReliableEmit(options)],
    events: { [pattern]: event }
  } as unknown as ServiceSchema);
}

function front(): void {
  const shop = broker.createService({ name: "shop", mixins: [ReliableEmit(options)] } as ServiceSchema);
  const till = broker.createService({
    name: "till",
    mixins: [ReliableEmit({ ...options, strategy: "callback", sources: ["books.find"] })]
  } as ServiceSchema);
  broker.createService({
    name: "books",
    actions: { find: (ctx: Context<{ n?: number }>) => ({ n: ctx.params.n ?? 0 }) }
  } as unknown as ServiceSchema);
  const desk = broker.createService({
    name: "desk",
    mixins: [ReliableAmqpQueue({ ...options, queues: { [JOBS]: { settle: "receipt" } } })]
  } as unknown as ServiceSchema);
  group("stock", "order.placed", true, () => undefined);
  // Every seventh fails at first.
  group("mail", "order.placed", false, ctx => {
    if ((ctx.params?.n ?? 0) % 7 === 0 && localsOf(ctx as never).attempt === 1)
      throw new Error("the first attempt fails");
  });

  const emit = async (n: number): Promise<void> => {
    const id = `${LIVING}${n}`;
    const event = ["order.placed", "order.placed", "order.paid", "stock.low", JOBS][n % 5] as string;
    const callback = Math.floor(n / 5) % 2 === 1;
    const payload = { n, text: "x".repeat(n % 300) };
    const own: EmitOptions = { id, meta: { user: { n } }, headers: { n } };
    // An intent of `callback` now and then; every other one is withdrawn.
    const intent = n % 20 === 7;
    if (intent)
      Object.assign(own, {
        source: { action: "books.find", params: { n } },
        commit: () => (n % 40 === 7 ? undefined : Promise.reject(new Error("no such order")))
      });
    note("A", id, now(), event, callback ? "callback" : "outbox", 0);
    for (;;) {
      try {
        if (event === JOBS) await desk.addAMQPJob(JOBS, payload, { id, strategy: callback ? "callback" : "outbox" });
        else await (callback ? till : shop).reliableEmit(event, payload, own);
        return note("P", id, now());
      } catch (error) {
        const { type = (error as Error).message.replaceAll(" ", "-") } = error as { type?: string };
        note(type === "RELIABLE_OUTCOME_UNKNOWN" ? "U" : "N", id, type);
        if (type !== "RELIABLE_OUTCOME_UNKNOWN") return;
      }
    }
  };
  let open = true;
  const flying = new Set<Promise<void>>();
  const load = async () => {
    // A group that is new to this node is owed nothing by its first emits.
    await runtimeOf(broker).storage?.subscriptions.refresh();
    for (let n = 0, from = performance.now(); open; ) {
      for (; n < ((performance.now() - from) / 1000) * rate && flying.size < 200; n++) {
        const one = emit(n).finally(() => flying.delete(one));
        flying.add(one);
      }
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    while (flying.size) await Promise.all(flying);
    await tell("emitted");
  };
  onTold("load", () => void load());
  onTold("enough", () => (open = false));
}

function back(): void {
  group("ledger", "order.paid", "transaction", () => undefined);
  group("audit", "order.**", true, () => undefined);
  group("buyer", "stock.*", true, () => undefined, { params: { n: "number" } });
  broker.createService({
    name: "mailer",
    mixins: [ReliableAmqpQueue(options)],
    AMQPQueues: {
      [JOBS](channel: QueueChannel, message: QueueMessage) {
        handled(String(message.properties["messageId"]), `queue/${JOBS}`);
        channel.ack(message);
      }
    }
  } as unknown as ServiceSchema);
}

async function main(): Promise<void> {
  const loop = monitorEventLoopDelay();
  onTold("memory", async () => {
    // What a finalizer releases is external memory: the next collection sees it gone.
    for (let i = 0; i < 3; i++) {
      globalThis.gc?.();
      await new Promise(resolve => setImmediate(resolve));
    }
    const { heapUsed, external, rss } = process.memoryUsage();
    await tell("memory", { heap: heapUsed, external, rss, stall: Math.round(loop.max / 1e6) } satisfies Memory);
    loop.reset();
  });
  onTold("health", async () => {
    const [health, subscriptions, stats] = await Promise.all(
      ["health", "subscriptions", "stats"].map(name => broker.call(`reliable.${name}`))
    );
    await tell("health", { health, subscriptions, stats });
  });
  onTold("stop", async () => {
    await broker.stop();
    process.disconnect();
  });
  if (role === "front") front();
  else back();
  await broker.start();
  loop.enable();
  await tell("started");
}

void main();
