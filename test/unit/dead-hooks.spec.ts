import { expect, it, vi } from "vitest";
import { Warnings } from "../../src/platform/warnings";
import { DeadHooks, type DeadHooksParts } from "../../src/producer-rpc/dead-hooks";
import type { Store } from "../../src/stores/store";
import type { DeadMessage } from "../../src/stores/store-records";
import { Events } from "../../src/telemetry/events";
import { at, deadOf, silent } from "../support/messages";

const dead = (id: string): DeadMessage => ({ id, group: "stock", cause: "handler", reason: "no" });

function world(more: Partial<DeadHooksParts> = {}) {
  const events = new Events(silent);
  const errors: string[] = [];
  events.on("error", (error, module) => void errors.push(`${module}: ${(error as Error).message}`));
  const heads = vi.fn(async (ids: string[]) =>
    ids.filter(id => id !== "gone").map(_id => deadOf({ _id, producer: "shop", deadAt: { stock: at(7) } }))
  );
  const store = { messages: { heads } } as unknown as Store;
  const call = vi.fn(async (): Promise<unknown> => undefined);
  const warnings = new Warnings(silent);
  const hooks = new DeadHooks({
    ...{ store, call, events, warnings, askTimeoutMs: 5000, hooked: () => new Set(["shop"]) },
    ...more
  });
  return { hooks, events, errors, heads, call };
}

it("calls the producer's action with what the row says, once per group and message", async () => {
  const { events, call, heads, errors } = world();
  events.emit("dead", [dead("a"), { id: "a", cause: "source", reason: "unknown" }, dead("gone")]);
  await vi.waitFor(() => expect(call).toHaveBeenCalledTimes(2));
  const news = { id: "a", event: "order.created", createdAt: at(0).toISOString() };
  expect(call.mock.calls).toEqual([
    [
      "shop.reliableDead",
      { ...news, group: "stock", cause: "handler", reason: "no", diedAt: at(7).toISOString() },
      { timeout: 5000 }
    ],
    [
      "shop.reliableDead",
      { ...news, cause: "source", reason: "unknown", diedAt: at(500).toISOString() },
      { timeout: 5000 }
    ]
  ]);
  expect(heads).toHaveBeenCalledTimes(1);
  expect(errors).toEqual([]);
});

it("reads nothing where no service has the hook, and calls none that has not", async () => {
  const none = world({ hooked: () => new Set() });
  none.events.emit("dead", [dead("a")]);
  const others = world({ hooked: () => new Set(["other"]) });
  others.events.emit("dead", [dead("a")]);
  await vi.waitFor(() => expect(others.heads).toHaveBeenCalled());
  expect(none.heads).not.toHaveBeenCalled();
  expect(others.call).not.toHaveBeenCalled();
});

it("tells what was not called: unreachable, the store away, the node's stop; the others are called", async () => {
  const { events, call, heads, errors, hooks } = world();
  call.mockRejectedValueOnce(new Error("Service not found"));
  events.emit("dead", [dead("a"), dead("b")]);
  await vi.waitFor(() => expect(call).toHaveBeenCalledTimes(2));
  heads.mockRejectedValueOnce(new Error("down"));
  events.emit("dead", [dead("c")]);
  events.emit("dead", [dead("d")]);
  await vi.waitFor(() => expect(call).toHaveBeenCalledTimes(3));
  hooks.stop();
  events.emit("dead", [dead("e")]);
  await vi.waitFor(() => expect(errors.length).toBeGreaterThan(1));
  expect(errors.slice(0, 2)).toEqual(["onDead: Service not found", "onDead: down"]);
  expect(call).toHaveBeenCalledTimes(3);
});

it("makes ten calls at a time, and keeps a limited number of deaths", async () => {
  let open = 0;
  let most = 0;
  const answers: (() => void)[] = [];
  const call = async () => {
    most = Math.max(most, ++open);
    await new Promise<void>(resolve => answers.push(resolve));
    open--;
  };
  const { events, errors, hooks } = world({ call });
  events.emit(
    "dead",
    Array.from({ length: 9990 }, (_, n) => dead(`m${n}`))
  );
  events.emit(
    "dead",
    Array.from({ length: 11 }, (_, n) => dead(`n${n}`))
  );
  expect(errors).toEqual(["onDead: 11 call(s) were not made: 9990 are waiting"]);
  await vi.waitFor(() => expect(answers).toHaveLength(10));
  hooks.stop();
  expect(errors[1]).toContain("9990 call(s) were not made: the node has stopped");
  for (const answer of answers) answer();
  await vi.waitFor(() => expect(open).toBe(0));
  expect(most).toBe(10);
});
