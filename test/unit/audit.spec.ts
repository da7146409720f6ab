import { expect, it, vi } from "vitest";
import { audited, idsOf, recordOf } from "../../src/operator/audit";
import { Warnings } from "../../src/platform/warnings";
import type { Store } from "../../src/stores/store";
import { at, silent } from "../support/messages";

it("keeps the id of one message, and the first 500 of many", () => {
  expect(idsOf(["a"])).toEqual({ id: "a" });
  const many = Array.from({ length: 501 }, (_, n) => `m${n}`);
  expect(idsOf(many)).toEqual({ ids: many.slice(0, 500) });
});

it("an act that is done is not undone by a store that does not take its end: its answer is given, and the log says so", async () => {
  const warn = vi.fn();
  const end = vi.fn().mockRejectedValue(new Error("the store is away"));
  const store = { now: () => at(1), audits: { end } } as unknown as Store;
  const record = recordOf(store, { act: "sweep", by: "ann", note: undefined });
  expect(record).toEqual({ _id: expect.any(String), at: at(1), act: "sweep", by: "ann", state: "begun", counts: {} });
  const parts = { store, warnings: new Warnings({ ...silent, warn }) };
  expect(await audited(parts, record._id, record.counts, async () => "answer")).toBe("answer");
  expect(end).toHaveBeenCalledWith(record._id, { state: "done", endedAt: at(1), counts: {} });
  expect(warn).toHaveBeenCalledWith(expect.stringContaining("the store is away"));
  // Nor does it take the place of the act's own error.
  const failing = audited(parts, record._id, record.counts, () => Promise.reject(new Error("no broker")));
  await expect(failing).rejects.toThrow("no broker");
  expect(end).toHaveBeenLastCalledWith(record._id, expect.objectContaining({ state: "failed", error: "no broker" }));
});
