import { describe, expect, it, vi } from "vitest";
import { AnnouncedHistory } from "../../src/consumer/announced-history";
import type { HistoryRecord } from "../../src/message/history";
import type { Clock } from "../../src/platform/clock";
import type { Store } from "../../src/stores/store";
import { AnnouncedCounts } from "../../src/tracker/announced-counts";
import { at } from "../support/messages";

const MINUTE = 60_000;
const now = at(48 * 60 * MINUTE + 10_000);

function tracker() {
  const add = vi.fn(async (records: HistoryRecord[]) => records.map(() => true));
  const counts = new AnnouncedCounts({ now: () => now, history: { add } } as unknown as Store);
  const tell = (minute: number, more: object = {}) =>
    counts.add({ nodeID: "python-1" }, { minute, start: "s", rows: [{ event: "a", handled: 1 }], ...more });
  const written = async () => {
    await counts.write();
    return add.mock.calls.flatMap(([records]) => records);
  };
  return { tell, written, add };
}

describe("counts that a node without a store tells", () => {
  it("have the same id each time, by its minute and start", async () => {
    const { tell, written } = tracker();
    const minute = now.getTime() - 10_000 - MINUTE;
    for (const start of ["s", "s", "t"]) tell(minute, { start });
    const records = await written();
    expect(records.map(({ _id }) => _id.split("|").slice(1))).toEqual([
      ["python-1", "s"],
      ["python-1", "s"],
      ["python-1", "t"]
    ]);
    expect(new Set(records.map(({ _id }) => _id)).size).toBe(2);
    expect(records[0]).toMatchObject({ unit: "minute", at: new Date(minute), rows: [{ event: "a", handled: 1 }] });
  });

  it("of what is to come stand where they were told, and what may be folded already is left aside", async () => {
    const { tell, written } = tracker();
    tell(now.getTime() + 50_000 + 99 * MINUTE);
    tell(now.getTime() - 10_000 - 23.5 * 60 * MINUTE);
    expect((await written()).map(record => record.at)).toEqual([new Date(now.getTime() - 10_000)]);
  });

  it("are of a limited number of events, and no more than a cluster has in a minute", async () => {
    const { tell, written } = tracker();
    tell(now.getTime() - 10_000, { rows: Array.from({ length: 500 }, (_, i) => ({ event: `e${i}`, handled: 1 })) });
    for (let i = 0; i < 2000; i++) tell(now.getTime() - 10_000, { start: `s${i}` });
    const records = await written();
    expect(records).toHaveLength(1000);
    expect(records[0]?.rows.length).toBeLessThan(300);
  });

  it("nothing is written where none are told", async () => {
    const { written, add } = tracker();
    await written();
    expect(add).not.toHaveBeenCalled();
  });
});

describe("who tells them", () => {
  const record = { _id: "m|n|s" } as HistoryRecord;
  const node = () => {
    let time = 0;
    const history = new AnnouncedHistory({ monotonic: () => time } as Clock);
    return { history, pass: (ms: number) => (time += ms) };
  };
  const announcing = (answer = true) => ({ tellHistory: vi.fn(async () => answer) });

  it("one of the groups that are announced; nobody on a node without any", async () => {
    const { history } = node();
    expect(await history.add([record])).toEqual([false]);
    const [one, two] = [announcing(), announcing()];
    history.enter(one);
    history.enter(two);
    expect(await history.add([record])).toEqual([true]);
    expect([one, two].map(({ tellHistory }) => tellHistory.mock.calls.length)).toEqual([1, 0]);
    history.leave(one);
    await history.add([record]);
    expect(two.tellHistory).toHaveBeenCalledTimes(1);
  });

  it("again, if the broker has not confirmed it", async () => {
    const { history } = node();
    history.enter(announcing(false));
    await expect(history.add([record])).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE", retryable: true });
  });

  it("the last group for a while after it has stopped, since a node's last minute ends then", async () => {
    const { history, pass } = node();
    const last = announcing();
    history.enter(last);
    history.leave(last);
    pass(30_000);
    expect(await history.add([record])).toEqual([true]);
    pass(40_000);
    expect(await history.add([record])).toEqual([false]);
    expect(last.tellHistory).toHaveBeenCalledTimes(1);
  });
});
