import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Courier, Heard } from "../../src/couriers/courier";
import { collect, eventually, publication, uniqueName } from "../support/couriers";
import { countsReturns } from "../support/rabbitmq";
import type { CourierFactory } from "./courier";

/** Consumptions that are suspended, marks, and news to all nodes. */
export function pauses({ name, create, cleanUp }: CourierFactory): void {
  describe(`pauses with courier ${name}`, () => {
    let namespace: string;
    let couriers: Courier[];
    let q: string;
    let mark: string;

    const started = async () => {
      const courier = create(namespace);
      couriers.push(courier);
      await courier.start();
      return courier;
    };
    const send = (courier: Courier, ...ids: string[]) =>
      Promise.all(ids.map(id => courier.publish(publication({ queue: q }, id))));

    beforeEach(() => {
      namespace = uniqueName(name);
      couriers = [];
      q = `${namespace}.q`;
      mark = `${namespace}.mark`;
    });

    afterEach(async () => {
      await Promise.all(couriers.map(courier => courier.close(0)));
      const janitor = create(namespace);
      await janitor.start();
      await janitor.remove(q);
      await janitor.control.unmark(mark);
      await janitor.close(0);
      await cleanUp(namespace);
    });

    test("a mark is there for all until it is taken away; both may be repeated", async () => {
      const [one, other] = [await started(), await started()];
      expect(await other.control.marked(mark)).toBe(false);
      await one.control.mark(mark);
      await other.control.mark(mark);
      expect(await other.control.marked(mark)).toBe(true);
      await other.control.unmark(mark);
      await one.control.unmark(mark);
      expect(await one.control.marked(mark)).toBe(false);
    });

    test("a suspended consumption takes nothing; what it holds can be acked, and it goes on where it ceased", async () => {
      const courier = await started();
      const { consumption, until, ids, deliveries } = await collect(courier, { name: q });
      await send(courier, "a", "b");
      await until(2);
      await consumption.suspend();
      expect([consumption.suspended, consumption.active]).toEqual([true, false]);
      expect(courier.status().idle).toEqual([]);
      await send(courier, "c", "d");
      expect((await courier.depth(q))?.ready).toBe(2);
      for (const delivery of deliveries) expect(delivery.ack()).toBe(true);
      // RabbitMQ counts it until then.
      await eventually(async () => (await courier.depth(q))?.consumers === 0);
      expect(ids()).toEqual(["a", "b"]);
      await consumption.resume();
      expect([consumption.suspended, consumption.active]).toEqual([false, true]);
      await until(4);
      expect(ids()).toEqual(["a", "b", "c", "d"]);
      expect(deliveries.map(({ redelivered }) => redelivered)).toEqual([false, false, false, false]);
      // What was acked while it was suspended does not come again.
      for (const delivery of deliveries) delivery.ack();
      await consumption.close();
      await eventually(async () => (await courier.depth(q))?.ready === 0);
    });

    test("what is given back while it is suspended comes once, after it is resumed, and is not counted as lost", async () => {
      const courier = await started();
      const { consumption, until, ids } = await collect(courier, { name: q });
      await send(courier, "a", "b");
      const [a, b] = await until(2);
      await consumption.suspend();
      expect(a?.nack(true)).toBe(true);
      await eventually(async () => (await courier.depth(q))?.ready === 1);
      expect(b?.ack()).toBe(true);
      await consumption.resume();
      const [, , again] = await until(3);
      expect(ids()).toEqual(["a", "b", "a"]);
      const counted = name === "amqp" && (await countsReturns());
      expect(again?.headers["x-delivery-count"]).toBe(counted ? 1 : undefined);
      again?.ack();
    });

    test("suspended and resumed many times in a row it is as was said last, and loses nothing", async () => {
      const courier = await started();
      const { consumption, until, ids } = await collect(courier, { name: q }, { ack: true, prefetch: 3 });
      const all = Array.from({ length: 200 }, (_, n) => `m${n}`);
      const sent = send(courier, ...all);
      for (let n = 0; n < 20; n++) {
        void consumption.suspend();
        if (n % 3) await consumption.resume();
        else void consumption.resume();
      }
      await sent;
      await until(all.length);
      expect(new Set(ids())).toEqual(new Set(all));
      await Promise.all([consumption.suspend(), consumption.resume(), consumption.suspend()]);
      await eventually(async () => (await courier.depth(q))?.consumers === 0);
    });

    test("a mark that is set keeps a consumption from its first delivery, after a new connection too", async () => {
      const courier = await started();
      await courier.control.mark(mark);
      await courier.declare({ name: q });
      await send(courier, "a");
      const far = await started();
      const { consumption, until, ids } = await collect(
        far,
        { name: q },
        { marks: [`${mark}.other`, mark], ack: true }
      );
      expect([consumption.suspended, consumption.active]).toEqual([true, false]);
      expect(await courier.depth(q)).toEqual({ ready: 1, consumers: 0 });
      await courier.control.unmark(mark);
      expect(ids()).toEqual([]);
      await consumption.resume();
      await until(1);
      expect(ids()).toEqual(["a"]);
    });

    test("what is told comes to all who listen for it then, and to nobody after that", async () => {
      const [one, other] = [await started(), await started()];
      const heard: Record<string, (Heard | undefined)[]> = { one: [], other: [] };
      const tell = (id: string, key = "all") => one.publish({ ...publication({ control: key }, id), type: "news" });
      expect((await tell("nobody")).outcome).toBe("returned");
      const stop = one.control.listen("all", news => heard["one"]?.push(news));
      other.control.listen("all", news => heard["other"]?.push(news));
      // Who begins to hear is told so: what came before was missed.
      await eventually(() => heard["one"]?.length === 1 && heard["other"]?.length === 1);
      expect([heard["one"], heard["other"]]).toEqual([[undefined], [undefined]]);
      expect(await tell("first")).toEqual({ outcome: "confirmed" });
      await eventually(() => heard["one"]?.length === 2 && heard["other"]?.length === 2);
      expect(heard["other"]?.[1]).toMatchObject({ messageId: "first", type: "news" });
      expect(JSON.parse(String(heard["one"]?.[1]?.body))).toEqual({ messageId: "first" });
      // Who listens for one key hears nothing of others, and may listen for several.
      other.control.listen("more", news => heard["other"]?.push(news));
      await eventually(() => heard["other"]?.length === 3);
      expect((await tell("for more", "more")).outcome).toBe("confirmed");
      await eventually(() => heard["other"]?.length === 4);
      expect((await tell("for nobody", "less")).outcome).toBe("returned");
      stop();
      await tell("second");
      await eventually(() => heard["other"]?.length === 5);
      expect(heard["one"]).toHaveLength(2);
    });
  });
}
