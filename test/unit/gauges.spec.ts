import { expect, it, vi } from "vitest";
import type { Courier } from "../../src/couriers/courier";
import { systemClock } from "../../src/platform/clock";
import type { Store } from "../../src/stores/store";
import { Gauges, type GaugesParts } from "../../src/telemetry/gauges";
import { Metrics } from "../../src/telemetry/metrics";

const logger = { error: vi.fn(), warn: vi.fn(), info: vi.fn(), debug: vi.fn() };

function world(more: Partial<GaugesParts> = {}) {
  const metrics = new Metrics();
  const added: Record<string, number> = {};
  const gauges: Record<string, number> = {};
  metrics.sink = {
    everyMs: 1000,
    add: (name, value) => void (added[name] = (added[name] ?? 0) + value),
    set: (name, value, labels) => void (gauges[labels ? `${name} ${labels["group"]}` : name] = value),
    observe: vi.fn()
  };
  const status = { reconnects: 0, blockedMs: 0, inFlight: 0 };
  const leases = { changes: 0 };
  const sampler = new Gauges({
    metrics,
    courier: { status: () => status } as unknown as Courier,
    store: undefined,
    subscriptions: undefined,
    logger,
    sweeper: { sweeping: false, leases },
    admission: { waiting: 0, closed: undefined },
    consumers: [{ inFlight: 1 }, { inFlight: 2 }],
    clock: systemClock,
    ...more
  });
  return { sampler, added, gauges, status, leases };
}

it("counts by how much totals have grown, to the last one at the stop", async () => {
  const { sampler, added, gauges, status, leases } = world();
  await sampler.sample();
  expect(added).toEqual({});
  Object.assign(status, { reconnects: 2, blockedMs: 1500, inFlight: 7 });
  leases.changes = 1;
  await sampler.sample();
  await sampler.sample();
  expect(added).toEqual({ reconnects: 2, "blocked.seconds": 1.5, "lease.changes": 1 });
  expect(gauges).toMatchObject({ "publish.inflight": 7, "handler.inflight": 3 });
  Object.assign(status, { reconnects: 3, blockedMs: 1750 });
  await sampler.stop();
  expect(added).toEqual({ reconnects: 3, "blocked.seconds": 1.75, "lease.changes": 1 });
  expect(gauges).toEqual({
    "publish.inflight": 0,
    "emit.waiting": 0,
    overloaded: 0,
    "handler.inflight": 0,
    "oldest.pending.seconds": 0,
    "oldest.unconsumed.seconds": 0,
    "oldest.dead.seconds": 0,
    "keys.held": 0,
    "keys.behind": 0
  });
});

it("shows each paused group on the node that sweeps, and none any more when it is resumed or the node stops", async () => {
  const subscriptions = { paused: [{ group: "stock" }, { group: "mail", pattern: "order.*" }] };
  const sweeper = { sweeping: true, leases: undefined };
  const { sampler, gauges } = world({ subscriptions, sweeper });
  const shown = () => Object.fromEntries(Object.entries(gauges).filter(([name]) => name.startsWith("paused")));
  await sampler.sample();
  expect(shown()).toEqual({ "paused stock": 1, "paused mail 'order.*'": 1 });
  subscriptions.paused.pop();
  await sampler.sample();
  expect(shown()).toEqual({ "paused stock": 1, "paused mail 'order.*'": 0 });
  sweeper.sweeping = false;
  await sampler.sample();
  expect(shown()).toEqual({ "paused stock": 0, "paused mail 'order.*'": 0 });
});

it("lets the last ages stand while the store does not answer, and asks it only where this node sweeps", async () => {
  const oldest = vi.fn(async () => ({ pending: new Date(Date.now() - 60_000), dead: new Date(Date.now() - 5000) }));
  const counts = async () => ({ held: { counted: 3, more: false }, behind: { counted: 10_000, more: true } });
  const store = { ready: true, messages: { oldest }, lanes: { counts } };
  const sweeper = { sweeping: true, leases: undefined };
  const { sampler, gauges } = world({ store: store as unknown as Store, sweeper });
  await sampler.sample();
  expect(gauges["oldest.pending.seconds"]).toBeCloseTo(60, 0);
  expect(gauges["oldest.dead.seconds"]).toBeCloseTo(5, 0);
  expect(gauges).toMatchObject({ "keys.held": 3, "keys.behind": 10_000 });
  store.ready = false;
  await sampler.sample();
  oldest.mockRejectedValueOnce(new Error("down"));
  store.ready = true;
  await sampler.sample();
  expect(gauges["oldest.pending.seconds"]).toBeCloseTo(60, 0);
  expect(oldest).toHaveBeenCalledTimes(2);
  sweeper.sweeping = false;
  await sampler.sample();
  expect(oldest).toHaveBeenCalledTimes(2);
  expect(gauges["oldest.pending.seconds"]).toBe(0);
  expect(gauges).toMatchObject({ "keys.held": 0, "keys.behind": 0 });
});
