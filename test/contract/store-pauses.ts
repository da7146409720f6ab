import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Pause } from "../../src/message/records";
import type { Store } from "../../src/stores/store";
import { uniqueName } from "../support/couriers";
import { at, subscriptionOf } from "../support/messages";
import type { StoreKind } from "./store";

const pauseOf = (fields: Partial<Pause> = {}): Pause => ({
  group: "stock",
  at: at(0),
  by: "anna",
  note: "why",
  ...fields
});
const STOCK = { group: "stock" };
const WIDE = { group: "stock", pattern: "order.*" };

export function pauses({ create }: StoreKind): void {
  describe("pauses", () => {
    let store: Store;

    beforeEach(async () => {
      store = create(uniqueName("pauses"));
      await store.start();
    });

    afterEach(() => store.close());

    it("a group and a pattern of it are paused and resumed each for itself", async () => {
      expect(await store.pauses.pause(pauseOf())).toBe(true);
      expect(await store.pauses.pause(pauseOf({ ...WIDE, at: at(5), by: "ben" }))).toBe(true);
      expect(await store.pauses.find(STOCK)).toEqual(pauseOf());
      expect(await store.pauses.find(WIDE)).toEqual(pauseOf({ ...WIDE, at: at(5), by: "ben" }));
      expect(await store.pauses.resume(WIDE, { at: at(10), by: "cleo" })).toBe(true);
      expect(await store.pauses.list()).toEqual(
        expect.arrayContaining([
          pauseOf(),
          { ...pauseOf({ ...WIDE, at: at(5), by: "ben" }), resumed: { at: at(10), by: "cleo" }, unmarked: false }
        ])
      );
    });

    it("what is paused is not paused again, but for a repetition of the same; what is not is not resumed", async () => {
      expect(await store.pauses.resume(STOCK, { at: at(1), by: "anna" })).toBe(false);
      expect(await store.pauses.find(STOCK)).toBeUndefined();
      await store.pauses.pause(pauseOf());
      expect(await store.pauses.pause(pauseOf())).toBe(true);
      expect(await store.pauses.pause(pauseOf({ at: at(1) }))).toBe(false);
      expect(await store.pauses.pause(pauseOf({ by: "ben" }))).toBe(false);
      expect(await store.pauses.find(STOCK)).toEqual(pauseOf());
      expect(await store.pauses.resume(STOCK, { at: at(2), by: "ben", note: "over" })).toBe(true);
      expect(await store.pauses.resume(STOCK, { at: at(3), by: "cleo" })).toBe(false);
      expect((await store.pauses.find(STOCK))?.resumed).toEqual({ at: at(2), by: "ben", note: "over" });
      expect(await store.pauses.pause(pauseOf({ at: at(4), note: "again" }))).toBe(true);
      expect(await store.pauses.find(STOCK)).toEqual(pauseOf({ at: at(4), note: "again" }));
    });

    it("one of two who pause at the same time does; so one of two who resume", async () => {
      const many = Array.from({ length: 5 }, (_, n) => n);
      const paused = await Promise.all(many.map(n => store.pauses.pause(pauseOf({ by: `operator ${n}` }))));
      expect(paused.filter(Boolean)).toHaveLength(1);
      const resumed = await Promise.all(many.map(n => store.pauses.resume(STOCK, { at: at(1), by: `operator ${n}` })));
      expect(resumed.filter(Boolean)).toHaveLength(1);
    });

    it("a marker is gone only of the resume that took it away; pruned is what has none and is old", async () => {
      await store.pauses.pause(pauseOf());
      expect(await store.pauses.unmarked(STOCK, at(1))).toBe(false);
      await store.pauses.resume(STOCK, { at: at(1), by: "anna" });
      expect(await store.pauses.prune(at(100))).toBe(0);
      await store.pauses.pause(pauseOf({ at: at(2) }));
      expect(await store.pauses.unmarked(STOCK, at(1))).toBe(false);
      await store.pauses.resume(STOCK, { at: at(3), by: "anna" });
      expect(await store.pauses.unmarked(STOCK, at(3))).toBe(true);
      expect(await store.pauses.unmarked(STOCK, at(3))).toBe(true);
      expect((await store.pauses.find(STOCK))?.unmarked).toBe(true);
      expect(await store.pauses.prune(at(3))).toBe(0);
      expect(await store.pauses.prune(at(4))).toBe(1);
      expect(await store.pauses.list()).toEqual([]);
    });

    it("announcements and `forget` do not touch it; it is no subscription, and one read has both", async () => {
      const subscription = subscriptionOf("stock");
      await store.subscriptions.announce([subscription]);
      await store.pauses.pause(pauseOf());
      await store.pauses.pause(pauseOf({ pattern: "order.created" }));
      await store.subscriptions.announce([{ ...subscription, seenAt: at(9) }]);
      const told: Error[] = [];
      const known = await store.subscriptions.known(error => told.push(error));
      expect(known.subscriptions).toEqual([{ ...subscription, seenAt: at(9) }]);
      expect(known.pauses).toEqual(expect.arrayContaining([pauseOf(), pauseOf({ pattern: "order.created" })]));
      expect(await store.subscriptions.list(error => told.push(error))).toHaveLength(1);
      expect(told).toEqual([]);
      expect(await store.operations.forget([subscription])).toBe(1);
      expect(await store.pauses.list()).toHaveLength(2);
    });
  });
}
