import type { ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import { systemQueues } from "../../src/wire/names";
import { until } from "../support/brokers";
import { courierOf, rowOf } from "../support/runtime";
import { reaches } from "../support/services";
import { localsOf, world } from "../support/strategies";

const DELAY_MS = 200;

/** Of a producer that is no Moleculer service: no action of it can be called. */
function sendAs(broker: ServiceBroker, id: string, plan: object = {}, delayMs = DELAY_MS) {
  const queues = systemQueues(broker.namespace);
  const echo = JSON.stringify({
    v: 1,
    at: Date.now(),
    delays: [delayMs, 2 * delayMs],
    max: 2,
    backoff: { initialMs: 10, maxMs: 10, jitter: "none" },
    resend: "copy",
    ...plan
  });
  const headers = {
    "x-reliable-version": 1,
    "x-reliable-strategy": "callback",
    "x-reliable-attempt": 1,
    "x-reliable-producer": "elsewhere",
    "x-reliable-receipt": queues.callbackReceipts,
    "x-reliable-meta": '{"user":7}',
    "x-reliable-echo": echo
  };
  const all = { messageId: id, type: "order.created", body: Buffer.from('{"n":1}'), appId: "elsewhere" };
  return {
    check: () =>
      courierOf(broker).publish({
        ...all,
        to: { queue: queues.checks, delayMs },
        headers: { ...headers, "x-reliable-round": 1 }
      }),
    message: () => courierOf(broker).publish({ ...all, to: { event: "order.created" }, headers })
  };
}

it("a producer that died between its check and its message: it is sent from the check's copy, and nobody is asked", async () => {
  const seen: unknown[] = [];
  const { broker, made } = await world("outbox", {
    stock: ctx => void seen.push([ctx.params, ctx.meta, localsOf(ctx).attempt, ctx.caller])
  });
  await sendAs(broker, "order 1").check();
  const story = await reaches(broker, "order 1", "consumed");
  expect(story).toMatchObject({ producer: "elsewhere", strategy: "callback", payload: { n: 1 }, handled: "stock" });
  expect(seen).toEqual([[{ n: 1 }, { user: 7 }, 2, "elsewhere"]]);
  expect((await rowOf(broker, "order 1")).resend).toBe("copy");
  expect(made.logs.filter(line => line.includes("no instance of the producer"))).toEqual([]);
});

it("its failed attempts are made again until they are spent, and a human's retry finds the copy", async () => {
  let works = false;
  const attempts: number[] = [];
  const { broker } = await world("outbox", {
    stock: ctx => {
      attempts.push(localsOf(ctx).attempt);
      if (!works) throw new Error("not yet");
    }
  });
  // The check comes after all that.
  const { check, message } = sendAs(broker, "order 1", {}, 20_000);
  await check();
  await message();
  expect((await reaches(broker, "order 1", "dead")).reason).toMatch(/^handler in group stock at attempt 2: not yet/);
  expect(attempts).toEqual([1, 2]);
  works = true;
  await broker.call("reliable.retry", { id: "order 1" });
  expect(await reaches(broker, "order 1", "consumed")).toMatchObject({ handled: "stock" });
});

it("a check whose plan asks a question that nobody can be asked is parked", async () => {
  const { broker } = await world("outbox", { stock: () => undefined });
  await sendAs(broker, "order 1", { source: { action: "a.b" } }).check();
  await sendAs(broker, "order 2", { intent: "barrier" }).check();
  await sendAs(broker, "order 3", { resend: "please" }).check();
  await sendAs(broker, "order 4", { backoff: { initialMs: 10, maxMs: 10, jitter: "sometimes" } }).check();
  const { rows } = await until(
    () => broker.call<{ rows: { reason: string }[] }, object>("reliable.parked", {}),
    ({ rows }) => rows.length === 4
  );
  expect(rows.map(({ reason }) => reason).toSorted()).toEqual(
    [
      ...Array<string>(2).fill("x-reliable-echo has resend together with source or intent"),
      "x-reliable-echo has a bad resend",
      "x-reliable-echo lacks backoff"
    ].toSorted()
  );
});
