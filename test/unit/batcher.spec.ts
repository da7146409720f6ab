import { describe, expect, it } from "vitest";
import { Batcher, type BatcherOptions } from "../../src/async/batcher";

/** A batcher whose writes the test answers one by one. */
function manual(options: Partial<BatcherOptions<string, string>> = {}) {
  const writes: { items: string[]; answer: (results?: string[]) => void; fail: (error: Error) => void }[] = [];
  const arrived: (() => void)[] = [];
  const batcher = new Batcher<string, string>({
    maxItems: 100,
    ...options,
    write: items =>
      new Promise((resolve, reject) => {
        writes.push({
          items,
          answer: (results = items.map(item => item.toUpperCase())) => resolve(results),
          fail: reject
        });
        for (const tell of arrived.splice(0)) tell();
      })
  });
  const write = async (n: number) => {
    while (writes.length <= n) await new Promise<void>(resolve => arrived.push(resolve));
    return writes[n] as (typeof writes)[number];
  };
  return { batcher, writes, write };
}

it("writes what came in one turn together, and what comes meanwhile in the next batch", async () => {
  const { batcher, writes, write } = manual();
  const first = [batcher.add("a"), batcher.add("b")];
  expect((await write(0)).items).toEqual(["a", "b"]);
  const second = ["c", "d", "e"].map(item => batcher.add(item));
  expect([writes.length, batcher.size]).toEqual([1, 3]);
  (await write(0)).answer();
  expect(await Promise.all(first)).toEqual(["A", "B"]);
  expect((await write(1)).items).toEqual(["c", "d", "e"]);
  (await write(1)).answer();
  expect(await Promise.all(second)).toEqual(["C", "D", "E"]);
  expect(batcher.size).toBe(0);
});

it("never has two writes in flight", async () => {
  let inFlight = 0;
  let most = 0;
  const batcher = new Batcher<number, number>({
    maxItems: 3,
    write: async items => {
      most = Math.max(most, ++inFlight);
      await new Promise(resolve => setImmediate(resolve));
      inFlight--;
      return items;
    }
  });
  const items = Array.from({ length: 50 }, (_, i) => i);
  expect(await Promise.all(items.map(item => batcher.add(item)))).toEqual(items);
  expect(most).toBe(1);
});

describe("cuts batches", () => {
  const table: [
    what: string,
    options: Partial<BatcherOptions<string, string>>,
    items: string[],
    batches: string[][]
  ][] = [
    ["by number", { maxItems: 2 }, ["a", "b", "c"], [["a", "b"], ["c"]]],
    ["by bytes", { maxBytes: 3, sizeOf: item => item.length }, ["aa", "b", "c"], [["aa", "b"], ["c"]]],
    [
      "but takes one that is too large alone",
      { maxBytes: 3, sizeOf: item => item.length },
      ["aaaaa", "b"],
      [["aaaaa"], ["b"]]
    ]
  ];
  it.each(table)("%s", async (_, options, items, batches) => {
    const { batcher, writes, write } = manual(options);
    const all = Promise.all(items.map(item => batcher.add(item)));
    for (let n = 0; n < batches.length; n++) (await write(n)).answer();
    await all;
    expect(writes.map(({ items }) => items)).toEqual(batches);
    expect(batcher.bytes).toBe(0);
  });
});

it("a failed write fails its own batch, and the next goes on", async () => {
  const { batcher, write } = manual({ maxItems: 2 });
  const settled = Promise.allSettled(["a", "b", "c"].map(item => batcher.add(item)));
  (await write(0)).fail(new Error("down"));
  (await write(1)).answer();
  expect((await settled).map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled"]);
});

it("a write that throws at once fails its batch and leaves the batcher usable", async () => {
  let throws = true;
  const batcher = new Batcher<string, string>({
    maxItems: 10,
    write: items => {
      if (throws) throw new Error("at once");
      return Promise.resolve(items);
    }
  });
  await expect(batcher.add("a")).rejects.toThrow("at once");
  throws = false;
  expect(await batcher.add("b")).toBe("b");
});

it("an item added by the answer of the last write is written too", async () => {
  const { batcher, write } = manual();
  const chained = batcher.add("a").then(() => batcher.add("b"));
  (await write(0)).answer();
  (await write(1)).answer();
  expect(await chained).toBe("B");
});

it("is idle when everything has been written or has failed", async () => {
  const { batcher, write } = manual({ maxItems: 1 });
  await batcher.idle();
  let idle = false;
  const settled = Promise.allSettled([batcher.add("a"), batcher.add("b")]);
  const end = batcher.idle().then(() => (idle = true));
  (await write(0)).answer();
  const last = await write(1);
  expect(idle).toBe(false);
  last.fail(new Error("down"));
  await end;
  await settled;
});

it("with `parallel`, a second write begins while the first is under way, but only with a full batch", async () => {
  const begun: number[][] = [];
  const ends: (() => void)[] = [];
  const batcher = new Batcher<number, void>({
    maxItems: 2,
    parallel: 2,
    write: items => {
      begun.push(items);
      return new Promise(resolve => ends.push(() => resolve(items.map(() => undefined))));
    }
  });
  const turn = () => new Promise(resolve => setImmediate(resolve));
  const first = batcher.add(1);
  await turn();
  const second = batcher.add(2);
  await turn();
  expect(begun).toEqual([[1]]);
  const third = batcher.add(3);
  const rest = [4, 5, 6].map(item => batcher.add(item));
  await turn();
  expect(begun).toEqual([[1], [2, 3]]);
  let idle = false;
  void batcher.idle().then(() => (idle = true));
  ends[1]?.();
  await Promise.all([second, third]);
  await turn();
  expect(begun).toEqual([[1], [2, 3], [4, 5]]);
  ends[0]?.();
  await first;
  await turn();
  expect(begun).toEqual([[1], [2, 3], [4, 5], [6]]);
  expect(idle).toBe(false);
  ends[2]?.();
  ends[3]?.();
  await Promise.all(rest);
  await turn();
  expect([idle, batcher.size]).toEqual([true, 0]);
  // At rest it begins anew.
  void batcher.add(7);
  await turn();
  expect(begun.at(-1)).toEqual([7]);
});
