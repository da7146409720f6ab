import { expect, it, vi } from "vitest";
import type { Clock } from "../../src/platform/clock";
import { Load } from "../../src/telemetry/load";

/** A load whose clock is the test's, and whose loop is busy. */
function world(
  taking = { consuming: true, paused: false, breaker: undefined as { opened: object | undefined } | undefined }
) {
  let now = 0;
  const load = new Load({ monotonic: () => now } as unknown as Clock, [taking]);
  const busy = { utilization: 1, active: 1, idle: 0 };
  vi.spyOn(performance, "eventLoopUtilization").mockImplementation(() => busy);
  const handle = load.watch(
    async (_: { id: string }) => {
      now += handlerMs;
      return {};
    },
    { pattern: "order.*", options: { maxInFlight: 1 } }
  );
  let handlerMs = 0;
  let sent = 0;
  return {
    load,
    handle,
    busy,
    taking,
    pass: (ms: number) => void (now += ms),
    handlerTakes: (ms: number) => void (handlerMs = ms),
    /** Sixteen emits, of which one is timed. */
    emits: (event = "order.created") => {
      const id = `m${++sent}`;
      for (let n = 0; n < 16; n++) if (load.chosen()) load.sent(id, event, now);
      return { id };
    }
  };
}

it("tells the age of what comes to a handler, for as many emits as it stands for", async () => {
  const { load, handle, emits, pass } = world();
  emits();
  const second = emits();
  pass(300);
  await handle(second);
  pass(100);
  expect(load.look(100)).toMatchObject({ handlers: 300, arrived: 16 });
  expect(load.look(100)).toMatchObject({ handlers: 400, arrived: 0 });
});

it("what does not come at all counts while its handlers would take it", () => {
  for (const [state, age] of [
    [{}, 700],
    [{ paused: true }, 0],
    [{ consuming: false }, 0],
    [{ breaker: { opened: {} } }, 0]
  ] as const) {
    const { load, emits, pass, taking } = world();
    Object.assign(taking, state);
    emits();
    pass(700);
    expect(load.look(100).handlers, JSON.stringify(state)).toBe(age);
  }
});

it("nothing is on its way to a handler while RabbitMQ takes nothing", () => {
  const { load, emits, pass } = world();
  emits();
  load.undelivered();
  pass(700);
  expect(load.look(100).handlers).toBe(0);
});

it.each([
  ["the loop waits for others", { utilization: 0.5 }, 0],
  ["handlers themselves take the time", {}, 90]
])("says nothing of deliveries where %s", async (_, loop, ms) => {
  const { load, handle, emits, pass, busy, handlerTakes } = world();
  const sent = emits();
  Object.assign(busy, loop);
  pass(900);
  handlerTakes(ms);
  await handle(sent);
  for (let n = 0; n < 31; n++) await handle({ id: "other" });
  await handle(emits());
  expect(load.look(100)).toMatchObject({ handlers: 0, arrived: undefined });
});

it("what nobody handles here is not waited for, nor what is very old", async () => {
  const { load, handle, emits, pass } = world();
  emits("user.created");
  pass(700);
  expect(load.look(100)).toMatchObject({ handlers: 0, arrived: undefined });
  const old = emits();
  pass(11_000);
  load.look(100);
  await handle(old);
  expect(load.look(100)).toMatchObject({ handlers: 0, arrived: undefined });
  load.unwatch(handle);
  emits();
  pass(500);
  expect(load.look(100).handlers).toBe(0);
});

it("an emit that waits for a server makes its line late, until it ends or the server stands still", () => {
  const { load, pass } = world();
  const first = load.begin(load.store, 0);
  pass(600);
  expect(load.look(100).store).toBe(600);
  load.store.end(first, 600);
  expect(load.look(100).store).toBe(600);
  expect(load.look(100).store).toBe(0);
  load.begin(load.store, 600);
  pass(2000);
  expect(load.look(100).store).toBe(0);
  const third = load.begin(load.broker, 2600);
  pass(500);
  load.undelivered();
  load.broker.end(third, 3100);
  expect(load.look(100).broker).toBe(0);
});

it("knows how late the loop is, and since when all is well", () => {
  const { load, pass } = world();
  expect(load.calmMs).toBe(Infinity);
  pass(350);
  expect(load.look(100).loop).toBe(250);
  load.overloaded("store");
  pass(400);
  expect([load.calmMs, load.lastStage]).toEqual([400, "store"]);
});
