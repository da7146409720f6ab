import { expect, it } from "vitest";
import type { RescheduleRecord } from "../../src/stores/store-records";
import { PagesAtWork } from "../../src/sweeper/pages-at-work";

const record = (id: string): RescheduleRecord => ({ id, claim: "c", dueAt: new Date(0) });

/** Pages whose work ends when the test says so, and what was written of them. */
function world(write: (ids: string[]) => Promise<void> = async () => undefined) {
  const written: [ids: string[], late: boolean][] = [];
  const pages = new PagesAtWork((records, late) => {
    const ids = records.map(({ id }) => id);
    if (ids.length) written.push([ids, late]);
    return write(ids);
  });
  return { pages, written };
}

it("two are worked through at a time; the third waits for the first", async () => {
  const { pages, written } = world();
  let end: (records: RescheduleRecord[]) => void = () => undefined;
  await pages.begun(new Promise(resolve => (end = resolve)));
  let room = false;
  const second = pages.begun(Promise.resolve([record("b")])).then(() => (room = true));
  await new Promise(resolve => setImmediate(resolve));
  expect(room).toBe(false);
  end([record("a")]);
  await second;
  expect(written).toEqual([]);
  await pages.begun(Promise.resolve([record("c")]));
  expect(written).toEqual([[["a"], true]]);
  await pages.end();
  expect(written).toEqual([
    [["a"], true],
    [["b", "c"], true]
  ]);
  await pages.end();
  expect(written).toHaveLength(2);
});

it("a single page is written at once, as nothing of it is handled yet", async () => {
  const { pages, written } = world();
  await pages.begun(Promise.resolve([record("a")]));
  await pages.end();
  expect(written).toEqual([[["a"], false]]);
});

it("one that fails is told, after the others were written", async () => {
  const { pages, written } = world();
  await pages.begun(Promise.reject(new Error("no store")));
  await expect(pages.begun(Promise.resolve([record("b")]))).rejects.toThrow("no store");
  await pages.end();
  expect(written).toEqual([[["b"], false]]);
});

it("a write that fails is told, and what comes after it is written", async () => {
  const failing = async (ids: string[]) => {
    if (ids.includes("a")) throw new Error("refused");
  };
  const { pages, written } = world(failing);
  for (const id of ["a", "b", "c"]) await pages.begun(Promise.resolve([record(id)]));
  // The write of `a` is under way, and fails while `c` is waited for.
  await expect(pages.begun(Promise.resolve([record("d")]))).rejects.toThrow("refused");
  await expect(pages.end()).rejects.toThrow("refused");
  expect(written.flatMap(([ids]) => ids).toSorted()).toEqual(["a", "b", "c", "d"]);
});
