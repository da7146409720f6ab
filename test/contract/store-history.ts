import { describe, expect, it } from "vitest";
import { type HistoryRecord, type HistoryRow, hourID, minuteID } from "../../src/message/history";
import { type HistoryParams, historyOf } from "../../src/operator/history";
import type { Store } from "../../src/stores/store";
import { at, deadOf, messageOf } from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** What node `nodeID` has counted in the minute `n` of the tests' day. */
function minute(n: number, rows: HistoryRow[], nodeID = "node-1", start = "s"): HistoryRecord {
  const begin = at(n * MINUTE);
  return { _id: minuteID(begin, nodeID, start), unit: "minute", at: begin, nodeID, rows };
}

const handled = (count: number): HistoryRow[] => [{ event: "order.created", group: "stock", handled: count }];
const all = [at(0), at(100 * HOUR)] as const;

/** What is counted by minute, and by hour when it is old; and which groups have failed. */
export function history(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const read = async (store: Store, unit: "minute" | "hour", from = all[0], to = all[1], limit = 1000) =>
    (await store.history.between(unit, from, to, limit)).records;
  const sum = (records: HistoryRecord[]) =>
    records.flatMap(({ rows }) => rows).reduce((total, { handled: count = 0 }) => total + count, 0);

  describe("history", () => {
    one("keeps a minute once, however often it is told, and as it was told first", async store => {
      const record = minute(2, [{ event: "order.created", group: "stock", handled: 3, dead: 1, times: [1, 2] }]);
      expect(await store.history.add([record, minute(3, handled(1))])).toEqual([true, true]);
      expect(await store.history.add([{ ...record, rows: handled(9) }, minute(4, handled(1))])).toEqual([false, true]);
      expect((await read(store, "minute"))[0]).toEqual(record);
      expect(await read(store, "minute")).toHaveLength(3);
    });

    one("has minutes from one instant to another, oldest first, and says when there are more", async store => {
      await store.history.add([minute(5, handled(5)), minute(3, handled(3)), minute(4, handled(4))]);
      const { history } = store;
      const shown = async (from: number, to: number, limit: number) => {
        const { records, more } = await history.between("minute", at(from * MINUTE), at(to * MINUTE), limit);
        return [records.map(({ rows }) => rows[0]?.handled), more];
      };
      expect(await shown(3, 5, 10)).toEqual([[3, 4], false]);
      expect(await shown(0, 9, 2)).toEqual([[3, 4], true]);
      expect(await shown(0, 9, 3)).toEqual([[3, 4, 5], false]);
      expect(await read(store, "hour")).toEqual([]);
    });

    one("folds a node's minutes into its hour, oldest first, and only of hours that have ended", async store => {
      await store.history.add([
        minute(1, handled(1)),
        minute(59, [...handled(2), { event: "order.created", group: "stock", failed: 1, times: [0, 4] }]),
        minute(59, handled(4), "node-2"),
        minute(60, handled(8)),
        minute(61, handled(16))
      ]);
      const before = at(60 * MINUTE + 59_000);
      expect(await store.history.fold(before)).toBe(true);
      expect(await store.history.fold(before)).toBe(true);
      expect(await store.history.fold(before)).toBe(false);
      const hours = await read(store, "hour");
      expect(hours.map(({ _id }) => _id).toSorted()).toEqual([hourID(at(0), "node-1"), hourID(at(0), "node-2")]);
      expect(hours.find(({ nodeID }) => nodeID === "node-1")?.rows).toEqual([
        { event: "order.created", group: "stock", handled: 3, failed: 1, times: [0, 4] }
      ]);
      expect(sum(await read(store, "minute"))).toBe(24);
      expect(sum(hours)).toBe(7);
    });

    one("a fold whose process died before it had deleted the minutes is ended by the next one", async store => {
      const minutes = [minute(1, handled(1)), minute(2, handled(2))];
      await store.history.add(minutes);
      await store.history.fold(at(2 * HOUR));
      // As after a death within the deletion.
      await store.history.add(minutes.slice(1));
      expect(await store.history.fold(at(2 * HOUR))).toBe(true);
      expect(sum(await read(store, "hour"))).toBe(3);
      expect(await read(store, "minute")).toEqual([]);
    });

    one("two folds at once count nothing twice, and lose nothing", async store => {
      await store.history.add(Array.from({ length: 60 }, (_, n) => minute(n, handled(1))));
      await Promise.all([store.history.fold(at(2 * HOUR)), store.history.fold(at(2 * HOUR))]);
      while (await store.history.fold(at(2 * HOUR)));
      expect(sum(await read(store, "hour"))).toBe(60);
      expect(await read(store, "minute")).toEqual([]);
    });

    one("is read as counted once, while minutes become hours, by minute and by hour", async store => {
      const now = store.now().getTime();
      const hour = Math.floor(now / HOUR) * HOUR;
      const told = (atMs: number, count: number, nodeID = "node-1"): HistoryRecord => {
        const begin = new Date(atMs);
        return { _id: minuteID(begin, nodeID, "s"), unit: "minute", at: begin, nodeID, rows: handled(count) };
      };
      const old = [told(hour - 30 * HOUR, 1), told(hour - 30 * HOUR + MINUTE, 2), told(hour - 30 * HOUR, 4, "node-2")];
      const recent = [told(hour - 2 * HOUR, 8), told(Math.floor(now / MINUTE) * MINUTE, 16)];
      await store.history.add([...old, ...recent]);
      const totalOf = async (params: HistoryParams) => (await historyOf(store, params)).total.handled;
      const week = { fromAt: now - 7 * 24 * HOUR, stepMs: HOUR };
      expect(await totalOf(week)).toBe(31);
      while (await store.history.fold(new Date(now - 24 * HOUR)));
      expect(await totalOf(week)).toBe(31);
      // As while the minutes are deleted.
      await store.history.add(old.slice(1));
      expect(await totalOf(week)).toBe(31);
      const { steps, total } = await historyOf(store, { ...week, stepMs: 24 * HOUR, group: "stock" });
      expect(steps.reduce((sum, step) => sum + step.handled, 0)).toBe(31);
      expect(total).toMatchObject({ handled: 31, p50Ms: null });
      expect(await totalOf({ fromAt: now - 3 * HOUR })).toBe(24);
      expect(await totalOf({ fromAt: now - 3 * HOUR, event: "order.paid" })).toBe(0);
      expect(await totalOf({ ...week, toAt: new Date(hour - 29 * HOUR) })).toBe(7);
    });

    one("drops hours that are old, by pages, and no minutes", async store => {
      await store.history.add([0, 1, 2, 30].map(hour => minute(hour * 60, handled(1))));
      for (let i = 0; i < 3; i++) await store.history.fold(at(3 * HOUR));
      expect(await store.history.drop(at(2 * HOUR), 1)).toBe(true);
      expect(await store.history.drop(at(2 * HOUR), 10)).toBe(false);
      expect(await read(store, "hour")).toHaveLength(1);
      await store.history.drop(at(40 * HOUR), 10);
      expect([await read(store, "hour"), (await read(store, "minute")).length]).toEqual([[], 1]);
    });

    one("shows a damaged record as far as it can be read, and folds the others", async store => {
      await store.history.add([minute(1, handled(1)), minute(2, handled(2))]);
      await rawOf(store).history.update({ _id: minute(1, [])._id }, { $set: { rows: [{ event: 7 }, "x", null] } });
      expect(sum(await read(store, "minute"))).toBe(2);
      await store.history.fold(at(2 * HOUR));
      expect(sum(await read(store, "hour"))).toBe(2);
    });
  });

  describe("groups that have failed", () => {
    one("are told by the dead messages, most first, as far as they are looked at", async store => {
      const dead = (n: number, failed: string[]) => deadOf({ failed, waiting: [], at: at(n) });
      await store.messages.insert([
        dead(1, ["mail"]),
        dead(2, ["mail", "stock"]),
        dead(3, ["mail"]),
        messageOf({ waiting: ["stock"] })
      ]);
      expect(await store.messages.deadGroups(10)).toEqual({
        groups: [
          { group: "mail", count: 3 },
          { group: "stock", count: 1 }
        ],
        more: false
      });
      expect(await store.messages.deadGroups(1)).toEqual({ groups: [{ group: "mail", count: 1 }], more: true });
    });
  });
}
