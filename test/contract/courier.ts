import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Courier, CourierFeatures, Delivery } from "../../src/couriers/courier";
import { type Collected, collect, eventually, next, outcomes, publication, uniqueName } from "../support/couriers";

export interface CourierFactory {
  name: string;
  features: CourierFeatures;
  create(namespace: string): Courier;
  /** Removes what a namespace has left at the broker besides its queues. */
  cleanUp(namespace: string): Promise<void>;
}

/** What every courier does. Which of them it is may not show, but for the declared features. */
export function courierSuite({ name, features, create, cleanUp }: CourierFactory): void {
  describe(`courier ${name}`, () => {
    let namespace: string;
    let couriers: Courier[];
    let queues: Set<string>;

    const started = async (within = namespace) => {
      const courier = create(within);
      couriers.push(courier);
      await courier.start();
      return courier;
    };
    /** A queue name of this test, removed after it. */
    const queue = (suffix: string) => {
      const full = `${namespace}.${suffix}`;
      queues.add(full);
      return full;
    };

    beforeEach(() => {
      namespace = uniqueName(name);
      couriers = [];
      queues = new Set();
    });

    afterEach(async () => {
      // Whoever made delay buckets knows them. A consumer that asks for its queue while it is being deleted can cost the
      // connection (541); the janitor takes what is left then, and what consumers have made anew.
      for (const courier of couriers.filter(({ ready }) => ready))
        for (const each of queues) await courier.remove(each).catch(() => undefined);
      await Promise.all(couriers.map(courier => courier.close(0)));
      const janitor = create(namespace);
      await janitor.start();
      for (const each of queues) await janitor.remove(each);
      await janitor.close(0);
      await cleanUp(namespace);
    });

    test("declares its features", async () => {
      expect((await started()).features).toEqual(features);
    });

    describe("publishing", () => {
      test("brings an event with all its properties to a bound queue", async () => {
        const courier = await started();
        const { until } = await collect(courier, { name: queue("q"), bindings: ["order.created"] });
        const body = Buffer.from([0, 255, 128, 10, 123]);
        const headers = {
          "x-reliable-version": 1,
          text: "ü",
          flag: true,
          list: ["a", "b"],
          nested: { deep: { n: 1.5 } }
        };
        const before = Math.floor(Date.now() / 1000);
        const result = await courier.publish({
          to: { event: "order.created" },
          messageId: "m1",
          type: "order.created",
          body,
          headers,
          appId: "orders"
        });
        expect(result).toEqual({ outcome: "confirmed" });
        const [delivery] = await until(1);
        expect(delivery).toMatchObject({
          queue: queue("q"),
          messageId: "m1",
          type: "order.created",
          contentType: "application/json",
          appId: "orders",
          redelivered: false,
          tag: 1
        });
        expect(delivery.headers).toEqual(headers);
        expect(delivery.body.equals(body)).toBe(true);
        expect(delivery.timestamp).toBeGreaterThanOrEqual(before);
        expect(delivery.timestamp).toBeLessThanOrEqual(Date.now() / 1000);
      });

      test("an empty body, a large one and a content type of one's own arrive as they were", async () => {
        const courier = await started();
        const { until } = await collect(courier, { name: queue("q") });
        const large = Buffer.alloc(300_000, "ab");
        await courier.publish({
          ...publication({ queue: queue("q") }, "empty", Buffer.alloc(0)),
          contentType: "application/octet-stream"
        });
        await courier.publish(publication({ queue: queue("q") }, "large", large));
        const [first, second] = await until(2);
        expect([first.messageId, first.body.length, first.contentType]).toEqual([
          "empty",
          0,
          "application/octet-stream"
        ]);
        expect(second.body.equals(large)).toBe(true);
      });

      test.each([
        ["order.created", ["order.created"], ["order", "order.created.now", "order.deleted"]],
        ["order.*", ["order.created", "order."], ["order", "order.created.now"]],
        ["*.created", ["order.created"], ["created", "big.order.created"]],
        ["order.#", ["order", "order.created", "order.created.now"], ["orders", "x.order"]],
        ["#", ["order", "order.created", "a.b.c.d"], []],
        ["#.created", ["created", "order.created", "big.order.created"], ["order.created.now"]],
        ["order.*.#.now", ["order.a.now", "order.a.b.c.now"], ["order.now"]]
      ])("binding %s", async (pattern, matching, others) => {
        const courier = await started();
        await courier.declare({ name: queue("q"), bindings: [pattern] });
        for (const event of matching)
          expect([event, (await courier.publish(publication({ event }))).outcome]).toEqual([event, "confirmed"]);
        for (const event of others)
          expect([event, (await courier.publish(publication({ event }))).outcome]).toEqual([event, "returned"]);
        await eventually(async () => (await courier.depth(queue("q")))?.ready === matching.length);
      });

      test("two bindings of one queue that match make one copy, each group gets its own", async () => {
        const courier = await started();
        const a = await collect(courier, { name: queue("a"), bindings: ["order.*", "order.created", "#"] });
        const b = await collect(courier, { name: queue("b"), bindings: ["order.created"] });
        await courier.publish(publication({ event: "order.created" }, "m1"));
        await courier.publish(publication({ event: "order.created" }, "m2"));
        await Promise.all([a.until(2), b.until(2)]);
        expect([a.ids(), b.ids()]).toEqual([
          ["m1", "m2"],
          ["m1", "m2"]
        ]);
      });

      test("exactly the unroutable ones are returned, with a reason", async () => {
        const courier = await started();
        await courier.declare({ name: queue("q"), bindings: ["known"] });
        const wanted = Array.from(
          { length: 300 },
          (_, i) => (["confirmed", "returned", "confirmed", "returned"] as const)[i % 4]
        );
        const addresses = [
          { event: "known" },
          { event: "unknown" },
          { queue: queue("q") },
          { queue: `${namespace}.missing` }
        ];
        const results = await Promise.all(wanted.map((_, i) => courier.publish(publication(addresses[i % 4]))));
        expect(results.map(({ outcome }) => outcome)).toEqual(wanted);
        expect(results.filter(({ reason }) => !reason).length).toBe(150);
        await eventually(async () => (await courier.depth(queue("q")))?.ready === 150);
      });

      test("headers beyond 64 KiB reject with a type and harm no other publish", async () => {
        const courier = await started();
        await courier.declare({ name: queue("q") });
        const good = Array.from({ length: 50 }, () => courier.publish(publication({ queue: queue("q") })));
        const bad = courier.publish({
          ...publication({ queue: queue("q") }, "giant"),
          headers: { big: "x".repeat(70_000) }
        });
        good.push(...Array.from({ length: 50 }, () => courier.publish(publication({ queue: queue("q") }))));
        await expect(bad).rejects.toMatchObject({ type: "RELIABLE_HEADERS_TOO_LARGE", data: { id: "giant" } });
        expect(outcomes(await Promise.all(good))).toEqual({ confirmed: 100 });
      });

      test("headers that cannot be encoded are refused and harm no other publish", async () => {
        const courier = await started();
        await courier.declare({ name: queue("q") });
        const results = await Promise.all([
          courier.publish({ ...publication({ queue: queue("q") }), headers: { f: () => 1 } }),
          courier.publish(publication({ queue: queue("q") }))
        ]);
        expect(results).toEqual([
          { outcome: "refused", reason: expect.stringContaining("cannot be encoded") },
          { outcome: "confirmed" }
        ]);
      });

      test("10 000 at once all get through, in order", async () => {
        const courier = await started();
        const ids = Array.from({ length: 10_000 }, (_, i) => `m${i}`);
        await courier.declare({ name: queue("q"), bindings: ["bulk"] });
        const results = await Promise.all(ids.map(id => courier.publish(publication({ event: "bulk" }, id))));
        expect(outcomes(results)).toEqual({ confirmed: ids.length });
        const collected = await collect(
          courier,
          { name: queue("q"), bindings: ["bulk"] },
          { ack: true, prefetch: 500 }
        );
        await collected.until(ids.length);
        expect(collected.ids()).toEqual(ids);
        await eventually(async () => (await courier.depth(queue("q")))?.ready === 0);
      });
    });

    describe("delays", () => {
      test("deliver not before their time, short ones before long ones", async () => {
        const courier = await started();
        const times = new Map<string | undefined, number>();
        const { until, ids } = await collect(
          courier,
          { name: queue("q") },
          { onDelivery: ({ messageId }) => void times.set(messageId, performance.now()) }
        );
        const sent = performance.now();
        const results = [
          await courier.publish(publication({ queue: queue("q"), delayMs: 900 }, "long")),
          await courier.publish(publication({ queue: queue("q"), delayMs: 300 }, "short")),
          await courier.publish(publication({ queue: queue("q"), delayMs: 0 }, "now"))
        ];
        expect(outcomes(results)).toEqual({ confirmed: 3 });
        await until(3);
        expect(ids()).toEqual(["now", "short", "long"]);
        expect((times.get("short") as number) - sent).toBeGreaterThanOrEqual(299);
        expect((times.get("long") as number) - sent).toBeGreaterThanOrEqual(899);
      });

      test("to a queue that does not exist are returned", async () => {
        const courier = await started();
        const { outcome, reason } = await courier.publish(publication({ queue: `${namespace}.missing`, delayMs: 200 }));
        expect([outcome, typeof reason]).toEqual(["returned", "string"]);
      });

      test("to a queue that another courier declared arrive there", async () => {
        const [ours, theirs] = [await started(), await started()];
        const { until } = await collect(theirs, { name: queue("q") });
        expect(await ours.publish(publication({ queue: queue("q"), delayMs: 100 }, "m1"))).toEqual({
          outcome: "confirmed"
        });
        const [{ messageId }] = await until(1);
        expect(messageId).toBe("m1");
      });
    });

    describe("consuming", () => {
      test("holds no more than prefetch, and goes on when acked", async () => {
        const courier = await started();
        const { until, deliveries } = await collect(courier, { name: queue("q") }, { prefetch: 3 });
        await Promise.all(Array.from({ length: 10 }, () => courier.publish(publication({ queue: queue("q") }))));
        await until(3);
        await eventually(async () => (await courier.depth(queue("q")))?.ready === 7);
        expect(deliveries.map(({ tag }) => tag)).toEqual([1, 2, 3]);
        expect(deliveries[1].ack()).toBe(true);
        await until(4);
        await eventually(async () => (await courier.depth(queue("q")))?.ready === 6);
        expect(deliveries.length).toBe(4);
      });

      test("ackUpTo acks all before it, whatever was acked already; acking twice is harmless", async () => {
        const courier = await started();
        const { until, deliveries, consumption } = await collect(courier, { name: queue("q") });
        await Promise.all(
          Array.from({ length: 6 }, (_, i) => courier.publish(publication({ queue: queue("q") }, `m${i}`)))
        );
        await until(6);
        expect([
          deliveries[1].ack(),
          deliveries[3].ack(),
          deliveries[3].ack(),
          deliveries[3].ackUpTo(),
          deliveries[3].ackUpTo(),
          deliveries[0].ack()
        ]).toEqual(Array(6).fill(true));
        await consumption.close();
        const second = await collect(courier, { name: queue("q") });
        await second.until(2);
        expect(second.ids()).toEqual(["m4", "m5"]);
        await eventually(async () => (await courier.depth(queue("q")))?.ready === 0);
      });

      test("nack gives back or refuses; what was answered once is not answered again", async () => {
        const courier = await started();
        await courier.declare({ name: queue("dead") });
        const { until, deliveries, consumption } = await collect(courier, {
          name: queue("q"),
          deadLetterTo: queue("dead")
        });
        await Promise.all(["m1", "m2", "m3"].map(id => courier.publish(publication({ queue: queue("q") }, id))));
        await until(3);
        expect(deliveries.map(({ live }) => live)).toEqual([true, true, true]);
        expect([
          deliveries[0].nack(true),
          deliveries[1].nack(false),
          deliveries[1].nack(true),
          deliveries[0].ack()
        ]).toEqual(Array(4).fill(true));
        await until(4);
        expect([deliveries[3].messageId, deliveries[3].redelivered]).toEqual(["m1", true]);
        const dead = await collect(courier, { name: queue("dead") }, { ack: true });
        await dead.until(1);
        expect(dead.ids()).toEqual(["m2"]);
        // Up to the last one, past those that were answered otherwise.
        expect(deliveries[3].ackUpTo()).toBe(true);
        await consumption.close();
        expect([deliveries[3].live, deliveries[2].nack(true)]).toEqual([false, false]);
        await eventually(async () => (await courier.depth(queue("q")))?.ready === 0);
      });

      test("competing consumers share, each message goes to one of them", async () => {
        const couriers = [await started(), await started()];
        const consumers: Collected[] = [];
        for (const courier of couriers)
          consumers.push(await collect(courier, { name: queue("q") }, { prefetch: 5, ack: true }));
        const ids = Array.from({ length: 200 }, (_, i) => `m${i}`);
        await Promise.all(ids.map(id => couriers[0].publish(publication({ queue: queue("q") }, id))));
        await eventually(() => consumers[0].deliveries.length + consumers[1].deliveries.length === 200);
        expect(consumers.every(({ deliveries }) => deliveries.length > 0)).toBe(true);
        expect(consumers.flatMap(consumer => consumer.ids()).sort()).toEqual([...ids].sort());
      });

      test("close gives back what is unacked, marked as redelivered; stale acks say so", async () => {
        const courier = await started();
        const first = await collect(courier, { name: queue("q") });
        await Promise.all(["m1", "m2", "m3"].map(id => courier.publish(publication({ queue: queue("q") }, id))));
        await first.until(3);
        first.deliveries[0].ack();
        expect(first.consumption.active).toBe(true);
        await Promise.all([first.consumption.close(), first.consumption.close()]);
        expect(first.consumption.active).toBe(false);
        expect([first.deliveries[1].ack(), first.deliveries[2].ackUpTo()]).toEqual([false, false]);
        const second = await collect(courier, { name: queue("q") });
        await second.until(2);
        expect(second.ids()).toEqual(["m2", "m3"]);
        expect(second.deliveries.map(({ redelivered }) => redelivered)).toEqual([true, true]);
      });

      test("after cancel nothing comes, and what is held can be acked", async () => {
        const courier = await started();
        const { until, deliveries, consumption } = await collect(courier, { name: queue("q") });
        await courier.publish(publication({ queue: queue("q") }, "m1"));
        await until(1);
        await Promise.all([consumption.cancel(), consumption.cancel()]);
        expect(consumption.active).toBe(false);
        await courier.publish(publication({ queue: queue("q") }, "m2"));
        expect(deliveries[0].ack()).toBe(true);
        await consumption.close();
        const second = await collect(courier, { name: queue("q") });
        await second.until(1);
        expect([deliveries.length, second.ids()]).toEqual([1, ["m2"]]);
      });

      test("a consumer that throws keeps the message, and the others come", async () => {
        const courier = await started();
        const seen: string[] = [];
        await courier.consume({
          queue: { name: queue("q") },
          prefetch: 10,
          onDelivery(delivery: Delivery) {
            seen.push(String(delivery.messageId));
            if (seen.length === 1) throw new Error("consumer bug");
          }
        });
        await courier.publish(publication({ queue: queue("q") }, "m1"));
        await courier.publish(publication({ queue: queue("q") }, "m2"));
        await eventually(() => seen.length === 2);
        expect(seen).toEqual(["m1", "m2"]);
      });

      test("a message that its consumers are lost with goes to deadLetterTo when the limit is passed", async () => {
        const parked = queue("parked");
        const spec = { name: queue("q"), deliveryLimit: 2, deadLetterTo: parked };
        const courier = await started();
        const dead = await collect(courier, { name: parked });
        await courier.declare(spec);
        await courier.publish({ ...publication({ queue: spec.name }, "poison"), headers: { mine: 1 } });
        for (let life = 0; life < 3; life++) {
          const victim = await started();
          const { until } = await collect(victim, spec);
          const [{ redelivered }] = await until(1);
          expect(redelivered).toBe(life > 0);
          await victim.close(0);
        }
        const [delivery] = await dead.until(1);
        expect(delivery).toMatchObject({
          messageId: "poison",
          type: "test",
          headers: { mine: 1, "x-first-death-queue": spec.name, "x-first-death-reason": "delivery_limit" }
        });
      });

      test("without deadLetterTo a message is given back for ever", async () => {
        const courier = await started();
        await courier.declare({ name: queue("q") });
        await courier.publish(publication({ queue: queue("q") }, "m1"));
        // One life more than RabbitMQ 4's own limit would allow.
        for (let life = 0; life < 22; life++) {
          const victim = await started();
          const { until } = await collect(victim, { name: queue("q") });
          expect((await until(1))[0].messageId).toBe("m1");
          await victim.close(0);
        }
      });

      test("goes on when its queue is deleted under it, with a new epoch", async () => {
        const courier = await started();
        const spec = { name: queue("q"), bindings: ["order.created"] };
        const { until, deliveries } = await collect(courier, spec);
        await courier.publish(publication({ event: "order.created" }, "m1"));
        await until(1);
        await courier.remove(spec.name);
        await eventually(async () => (await courier.depth(spec.name))?.consumers === 1);
        expect(deliveries[0].ack()).toBe(false);
        expect(await courier.publish(publication({ event: "order.created" }, "m2"))).toEqual({ outcome: "confirmed" });
        await until(2);
        expect([deliveries[1].messageId, deliveries[1].epoch !== deliveries[0].epoch, deliveries[1].tag]).toEqual([
          "m2",
          true,
          1
        ]);
        expect(deliveries[1].ack()).toBe(true);
      });
    });

    describe("a limit", () => {
      const filled = async (prefetch: number) => {
        const courier = await started();
        const collected = await collect(courier, { name: queue("q") }, { prefetch });
        const send = (count: number) =>
          Promise.all(Array.from({ length: count }, () => courier.publish(publication({ queue: queue("q") }))));
        const ready = (count: number) => eventually(async () => (await courier.depth(queue("q")))?.ready === count);
        return { courier, ...collected, send, ready };
      };

      test("of 0 takes nothing, keeps what is held, and is no fault", async () => {
        const { courier, consumption, send, ready, until, deliveries } = await filled(2);
        await send(2);
        await until(2);
        consumption.limit(0);
        await send(3);
        await ready(3);
        expect(consumption.active).toBe(true);
        expect(courier.status().idle).toEqual([]);
        expect(deliveries.every(delivery => delivery.ack())).toBe(true);
        await eventually(async () => (await courier.depth(queue("q")))?.consumers === 0);
        await ready(3);
        expect(deliveries).toHaveLength(2);
        consumption.limit(100);
        await until(4);
        await ready(1);
      });

      test("of 1 takes one at a time beside what was held before", async () => {
        const { consumption, send, ready, until, deliveries } = await filled(10);
        await send(10);
        await until(10);
        consumption.limit(0);
        await send(5);
        consumption.limit(1);
        await until(11);
        await ready(4);
        deliveries[10]?.ack();
        await until(12);
        await ready(3);
        for (const delivery of deliveries) delivery.ack();
        await until(13);
        await ready(2);
      });

      test("changed again and again ends as it was set last, and loses nothing", async () => {
        const { consumption, send, ready, until, deliveries } = await filled(20);
        const sent = send(40);
        for (const limit of [0, 1, 0, 5, 20, 0, 1, 3]) {
          consumption.limit(limit);
          await new Promise(setImmediate);
        }
        await sent;
        const open = () => deliveries.filter(({ messageId }) => !acked.has(messageId as string));
        const acked = new Set<string>();
        await eventually(async () => {
          for (const delivery of open()) if (delivery.ack()) acked.add(delivery.messageId as string);
          return acked.size === 40;
        });
        await ready(0);
        const before = deliveries.length;
        await send(10);
        await until(before + 3);
        await ready(7);
      });

      test("holds for a consumption that is closed, and for one whose queue was deleted", async () => {
        const { courier, consumption, send, until, deliveries } = await filled(10);
        consumption.limit(0);
        await eventually(async () => (await courier.depth(queue("q")))?.consumers === 0);
        await courier.remove(queue("q"));
        await courier.declare({ name: queue("q") });
        await send(5);
        consumption.limit(2);
        await until(2);
        expect(deliveries).toHaveLength(2);
        await consumption.close();
        consumption.limit(10);
        await eventually(async () => JSON.stringify(await courier.depth(queue("q"))) === '{"ready":5,"consumers":0}');
      });
    });

    describe("queues", () => {
      test("depth counts ready messages and consumers; undefined where there is none", async () => {
        const courier = await started();
        expect(await courier.depth(`${namespace}.missing`)).toBeUndefined();
        await courier.declare({ name: queue("q") });
        expect(await courier.depth(queue("q"))).toEqual({ ready: 0, consumers: 0 });
        await Promise.all(Array.from({ length: 5 }, () => courier.publish(publication({ queue: queue("q") }))));
        await eventually(async () => (await courier.depth(queue("q")))?.ready === 5);
        const { consumption } = await collect(courier, { name: queue("q") }, { prefetch: 2 });
        await eventually(async () => JSON.stringify(await courier.depth(queue("q"))) === '{"ready":3,"consumers":1}');
        await consumption.close();
        await eventually(async () => JSON.stringify(await courier.depth(queue("q"))) === '{"ready":5,"consumers":0}');
      });

      test("declaring twice is fine, with other arguments it is a mismatch that harms nothing", async () => {
        const courier = await started();
        const spec = { name: queue("q"), bindings: ["a"], deliveryLimit: 5, deadLetterTo: queue("parked") };
        await courier.declare({ name: spec.deadLetterTo });
        await courier.declare(spec);
        await courier.declare({ ...spec, bindings: ["b"] });
        const inFlight = courier.publish(publication({ event: "a" }));
        await expect(courier.declare({ ...spec, deliveryLimit: 6 })).rejects.toMatchObject({
          type: "RELIABLE_QUEUE_MISMATCH",
          message: expect.stringMatching(new RegExp(`${spec.name}.*x-delivery-limit.*delete it`, "s"))
        });
        await expect(collect(courier, { name: spec.name })).rejects.toMatchObject({ type: "RELIABLE_QUEUE_MISMATCH" });
        expect(outcomes([await inFlight, await courier.publish(publication({ event: "b" }))])).toEqual({
          confirmed: 2
        });
      });

      test("a foreign queue is taken as it is, or made", async () => {
        const [owner, guest] = [await started(), await started()];
        await owner.declare({ name: queue("dead") });
        await owner.declare({ name: queue("q"), deliveryLimit: 3, deadLetterTo: queue("dead") });
        await guest.declare({ name: queue("q"), foreign: true });
        await guest.declare({ name: queue("made"), foreign: true });
        const { until } = await collect(guest, { name: queue("q"), foreign: true }, { ack: true });
        expect((await guest.publish(publication({ queue: queue("q") }, "m1"))).outcome).toBe("confirmed");
        await until(1);
        expect((await owner.publish(publication({ queue: queue("made") }))).outcome).toBe("confirmed");
        await owner.declare({ name: queue("q"), deliveryLimit: 3, deadLetterTo: queue("dead") });
      });

      test("a removed queue takes its bindings and messages with it; removing none is fine", async () => {
        const courier = await started();
        await courier.declare({ name: queue("q"), bindings: ["a"] });
        await courier.publish(publication({ event: "a" }));
        await courier.remove(queue("q"));
        await courier.remove(queue("q"));
        expect(await courier.depth(queue("q"))).toBeUndefined();
        expect((await courier.publish(publication({ event: "a" }))).outcome).toBe("returned");
        await courier.declare({ name: queue("q"), bindings: ["a"] });
        expect(await courier.depth(queue("q"))).toEqual({ ready: 0, consumers: 0 });
      });

      test("what a process left in its queues waits for the next one, or is gone, as the features say", async () => {
        const first = await started();
        await first.declare({ name: queue("q") });
        await first.publish(publication({ queue: queue("q") }, "m1"));
        await first.close(1_000);
        const second = await started();
        expect(await second.depth(queue("q"))).toEqual(features.durable ? { ready: 1, consumers: 0 } : undefined);
      });

      test("two namespaces never meet", async () => {
        const other = uniqueName(name);
        const [ours, theirs] = [await started(), await started(other)];
        await ours.declare({ name: queue("q"), bindings: ["#"] });
        expect((await theirs.publish(publication({ event: "order.created" }))).outcome).toBe("returned");
        await cleanUp(other);
      });
    });

    describe("life", () => {
      test("before the start publishes are unknown, queues and consumers are remembered", async () => {
        const courier = create(namespace);
        couriers.push(courier);
        await courier.declare({ name: queue("a"), bindings: ["a"] });
        const consumer = await collect(courier, { name: queue("b"), bindings: ["b"] });
        expect([courier.ready, consumer.consumption.active, courier.status().publish.connected]).toEqual([
          false,
          false,
          false
        ]);
        expect((await courier.publish(publication({ event: "a" }))).outcome).toBe("unknown");
        expect((await courier.publish(publication({ queue: queue("a"), delayMs: 100 }))).outcome).toBe("unknown");
        await expect(courier.depth(queue("a"))).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
        const ready = next(courier, "ready");
        await courier.start();
        await ready;
        await eventually(() => consumer.consumption.active);
        expect([courier.ready, courier.writable, courier.status().publish.connected]).toEqual([true, true, true]);
        expect(
          outcomes([
            await courier.publish(publication({ event: "a" })),
            await courier.publish(publication({ event: "b" }, "m1"))
          ])
        ).toEqual({ confirmed: 2 });
        expect((await consumer.until(1))[0].messageId).toBe("m1");
      });

      test("close waits for publishes in flight, then everything is unknown; closing twice is fine", async () => {
        const courier = await started();
        await courier.declare({ name: queue("q") });
        const down = next(courier, "down");
        const inFlight = Array.from({ length: 2_000 }, () => courier.publish(publication({ queue: queue("q") })));
        await Promise.all([courier.close(10_000), courier.close(10_000), down]);
        expect(outcomes(await Promise.all(inFlight))).toEqual({ confirmed: 2_000 });
        expect([courier.ready, await courier.publish(publication({ queue: queue("q") }))]).toEqual([
          false,
          { outcome: "unknown", reason: expect.any(String), sent: false }
        ]);
        await expect(courier.depth(queue("q"))).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
      });

      test("listeners can leave, and a throwing one harms nobody", async () => {
        const courier = create(namespace);
        couriers.push(courier);
        const heard: string[] = [];
        courier.on("ready", () => {
          throw new Error("listener bug");
        });
        courier.on("ready", () => void heard.push("stays"));
        courier.on("ready", () => void heard.push("left"))();
        await courier.start();
        expect(heard).toEqual(["stays"]);
      });
    });
  });
}
