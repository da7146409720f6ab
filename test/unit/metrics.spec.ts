import { expect, it, vi } from "vitest";
import { MAX_EVENT_LABELS, METRICS, Metrics } from "../../src/telemetry/metrics";
import { rowsOf } from "../support/pages";

it("bounds the event names that become labels; totals stay right", () => {
  const metrics = new Metrics();
  const add = vi.fn();
  const observe = vi.fn();
  metrics.sink = { everyMs: 1000, add, observe, set: vi.fn() };
  for (let i = 0; i < MAX_EVENT_LABELS + 10; i++) metrics.emitted(`order.${i}`);
  metrics.time("emit.time", 5, "order.late");
  metrics.emitted("order.1");
  const labels = add.mock.calls.map(([, , { event }]) => event as string);
  expect(new Set(labels).size).toBe(MAX_EVENT_LABELS + 1);
  expect(labels.filter(label => label === "other")).toHaveLength(10);
  expect(labels.at(-1)).toBe("order.1");
  expect(observe).toHaveBeenCalledWith("emit.time", 5, { event: "other" });
  expect(metrics.totals["emitted"]).toBe(MAX_EVENT_LABELS + 11);
});

it("counts without a sink", () => {
  const metrics = new Metrics();
  metrics.count("sweeps", 3);
  metrics.time("emit.time", 5, "order.created");
  const add = vi.fn();
  metrics.sink = { everyMs: 1000, add, observe: vi.fn(), set: vi.fn() };
  metrics.count("sweeps", 2);
  expect(metrics.totals).toEqual({ sweeps: 5 });
  expect(add.mock.calls).toEqual([["sweeps", 2, {}]]);
});

it("begins the series of an event's other ends with its first one, once", () => {
  const metrics = new Metrics();
  const add = vi.fn();
  metrics.sink = { everyMs: 1000, add, observe: vi.fn(), set: vi.fn() };
  metrics.outcome("order.created", "confirmed");
  metrics.outcome("order.created", "confirmed");
  metrics.handled("order.created", "stock", 3);
  const begun = add.mock.calls.filter(([, value]) => value === 0).map(([name]) => name as string);
  expect(begun).toEqual(["confirmed", "returned", "nacked", "refused", "unknown", "handled", "failed", "duplicates"]);
  expect(metrics.totals).toEqual({ confirmed: 2, handled: 1 });
});

it("the reference's table of metrics is that of the code", () => {
  const rows = rowsOf("metric | type", "docs/reference/metrics.md").map(([name, type, labels, what]) => [
    name,
    type,
    labels === "–" ? [] : labels?.split(", "),
    what
  ]);
  expect(rows).toEqual(
    Object.entries(METRICS).map(([name, { type, labels, description }]) => [
      `moleculer.reliable.${name}`,
      type,
      labels,
      description
    ])
  );
});
