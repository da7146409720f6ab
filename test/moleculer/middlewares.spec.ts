import { type Context, TracerExporters } from "moleculer";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { consumer, oneNode, reaches, subscribed } from "../support/services";

const line = process.env["MOLECULER_LINE"];

type Handler = (ctx: Context<{ act?: string }>) => Promise<unknown>;

/** A user's middleware that does to a delivery what its payload says. */
function middleware(log: string[]) {
  return {
    name: "Users",
    localEvent(next: Handler, event: { name: string }): Handler {
      if (event.name !== "order.created") return next;
      return async ctx => {
        log.push(`in:${ctx.params.act}`);
        if (ctx.params.act === "refuse") throw new Error("refused by a middleware");
        if (ctx.params.act === "overload") throw Object.assign(new Error("queue is full"), { retryable: true });
        if (ctx.params.act === "answer") return "answered";
        if (ctx.params.act === "swallow") return next(ctx).catch(() => undefined);
        const result = await next(ctx);
        if (ctx.params.act === "reject after") throw new Error("rejected after the handler");
        log.push(`out:${ctx.params.act}`);
        return result;
      };
    }
  };
}

function handler(log: string[]) {
  return (ctx: Context<{ act?: string }>) => {
    log.push(`handler:${ctx.params.act}`);
    if (["fail", "swallow"].includes(ctx.params.act ?? "")) throw new Error("handler failed");
  };
}

async function withMiddleware() {
  const made = cluster();
  const log: string[] = [];
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", handler(log))], {
    middlewares: [middleware(log)]
  });
  await subscribed(broker, 1);
  return { broker, log, emit: (act: string) => emit("order.created", { act }, { maxAttempts: 2 }) };
}

it.each([
  ["pass", ["in:pass", "handler:pass", "out:pass"], "a delivery passes the user's middleware on its way"],
  ["swallow", ["in:swallow", "handler:swallow"], "a middleware that swallows the handler's error makes it a success"]
])("%s: consumed, %j", async (act, expected) => {
  const { broker, emit, log } = await withMiddleware();
  const { id } = await emit(act);
  expect((await reaches(broker, id, "consumed")).attempts).toBe(1);
  expect(log).toEqual(expected);
});

it.each([
  ["fail", 2, "handler", "handler failed"],
  ["reject after", 2, "handler", "rejected after the handler"],
  ["refuse", 1, "rejected", "refused by a middleware"],
  ["overload", 2, "rejected", "queue is full"],
  ["answer", 1, "rejected", "A middleware answered for the handler"]
])("%s: dead after %i attempt(s), cause %s", async (act, attempts, cause, reason) => {
  const { broker, emit, log } = await withMiddleware();
  const { id } = await emit(act);
  const dead = await reaches(broker, id, "dead");
  expect(dead.reason).toContain(`${cause} in group stock at attempt ${attempts}: ${reason}`);
  expect(log.filter(entry => entry === `in:${act}`)).toHaveLength(attempts);
  const reached = ["fail", "reject after"].includes(act);
  expect(log.filter(entry => entry === `handler:${act}`)).toHaveLength(reached ? attempts : 0);
});

it.each([
  ["swallows", () => undefined],
  [
    "rethrows",
    (error: Error) => {
      throw error;
    }
  ],
  [
    "throws another",
    () => {
      throw new Error("of the errorHandler");
    }
  ]
])("a failed handler has failed where the broker's `errorHandler` %s", async (_, errorHandler) => {
  const made = cluster();
  const told: string[] = [];
  const { broker, emit } = await oneNode(
    made,
    [
      consumer(made.mixin(), "stock", "order.created", () => {
        throw new Error("handler failed");
      })
    ],
    {
      errorHandler(error: Error, info: { event?: { name: string } }) {
        told.push(`${info.event?.name}: ${error.message}`);
        return errorHandler(error);
      }
    }
  );
  const { id } = await emit("order.created", {}, { maxAttempts: 2 });
  expect((await reaches(broker, id, "dead")).reason).toContain("handler failed");
  expect(told).toEqual(["order.created: handler failed", "order.created: handler failed"]);
});

it.each([
  [
    "a string",
    () => {
      throw "just text";
    },
    "just text"
  ],
  [
    "null",
    () => {
      throw null;
    },
    ""
  ],
  ["undefined, as a rejection", () => Promise.reject(), ""],
  [
    "an object",
    () => {
      throw { code: 7 };
    },
    ""
  ]
])("a handler that throws %s has failed", async (_, handle, reason) => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", handle)]);
  const { id } = await emit("order.created", {}, { maxAttempts: 1 });
  expect((await reaches(broker, id, "dead")).reason).toContain(reason);
});

it("keeps what handlers of several deliveries at once do apart", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, [
    consumer(
      made.mixin(),
      "stock",
      "order.created",
      (ctx: Context<never>) => {
        if ((ctx.params as { n: number }).n % 2) throw new Error("odd");
      },
      { reliable: { breaker: false } }
    )
  ]);
  await subscribed(broker, 1);
  const sent = await Promise.all(
    Array.from({ length: 40 }, (_, n) => emit("order.created", { n }, { maxAttempts: 1 }))
  );
  await Promise.all(sent.map(({ id }, n) => reaches(broker, id, n % 2 ? "dead" : "consumed")));
});

interface SpanSeen {
  name: string;
  id: string;
  traceID: string;
  parentID: string | null;
}

it("goes on with the trace: the handler's span descends, by the emit's, from the span in which the emit was called", async () => {
  const made = cluster();
  const spans: SpanSeen[] = [];
  class Keep extends (TracerExporters.Base as unknown as new (options?: object) => object) {
    spanFinished({ name, id, traceID, parentID }: SpanSeen) {
      spans.push({ name, id, traceID, parentID });
    }
    spanStarted() {}
    stop() {}
  }
  const orders = {
    name: "orders",
    mixins: [made.mixin()],
    actions: {
      async create(this: { reliableEmit(...args: unknown[]): Promise<unknown> }, ctx: Context) {
        const span = ctx.startSpan("own span", {});
        await this.reliableEmit("order.created", {}, { ctx, waitFor: "consumed" });
        ctx.finishSpan(span);
        await this.reliableEmit("order.created", {}, { ctx, waitFor: "consumed" });
        return ctx.requestID;
      }
    }
  };
  const { broker } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => undefined), orders], {
    tracing: { enabled: true, exporter: new Keep(), events: true }
  });
  await subscribed(broker, 1);
  const requestID = await broker.call("orders.create");
  const handled = await until(
    () => spans.filter(span => span.name === "event 'order.created' in 'stock'"),
    found => found.length === 2
  );
  const own = spans.find(span => span.name === "own span");
  const action = spans.find(span => span.name === "action 'orders.create'");
  expect(handled.map(span => span.traceID)).toEqual([requestID, requestID]);
  const emits = handled.map(({ parentID }) => spans.find(({ id }) => id === parentID));
  expect(emits.map(span => [span?.traceID, span?.parentID])).toEqual([
    [requestID, own?.id],
    [requestID, action?.id]
  ]);
  expect(own?.parentID).toBe(action?.id);
});

// Moleculer 0.14 calls a handler whose first argument is not named `ctx` with (payload, sender, event, ctx); 0.15 knows
// only `ctx`.
it("serves legacy handlers, where there are such", async () => {
  const made = cluster();
  const seen: unknown[] = [];
  const legacy = (
    payload: { params?: unknown },
    sender: unknown,
    event: unknown,
    ctx: { requestID?: string } | undefined
  ) =>
    void seen.push(
      line === "0.14" ? [payload, sender, event, typeof ctx?.requestID] : [payload.params, sender, event, ctx]
    );
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.*", legacy as never)]);
  await subscribed(broker, 1);
  await emit("order.created", { n: 1 }, { waitFor: "consumed" });
  expect(seen).toEqual([
    line === "0.14" ? [{ n: 1 }, "node-1", "order.created", "string"] : [{ n: 1 }, undefined, undefined, undefined]
  ]);
});
