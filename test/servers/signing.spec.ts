import type { Context, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { ReliableOptions } from "../../src";
import type { Health } from "../../src/operator/health";
import { cluster, until } from "../support/brokers";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";

const KEY = "the-key-of-this-test-the-key-of-this-test";
const NEXT = "the-next-key-the-next-key-the-next-key";
const DELAYS = [400, 800, 1600];

/** One node after the other, the new one before the old one goes; emits go on all the time. */
it("nodes that change from no signatures to required ones, and to another key, under load: nothing is parked, nothing lost", {
  timeout: 400_000
}, async () => {
  const made = cluster();
  const handled = new Set<number>();
  const roles = ["desk", "stock", "shop"] as const;
  type Role = (typeof roles)[number];
  const nodes = new Map<Role, ServiceBroker>();
  let started = 0;
  const handler = (ctx: Context<{ n: number }>) => {
    const { n } = ctx.params;
    // Some are sent again.
    if (n % 7 === 0 && !handled.has(n + 0.5)) {
      handled.add(n + 0.5);
      throw new Error("once");
    }
    handled.add(n);
  };
  const start = async (role: Role, options: ReliableOptions) => {
    const own = { checkDelaysMs: DELAYS, ...options };
    const services = {
      desk: () => [emitter(made.mixin(own), "desk")],
      stock: () => [consumer(made.mixin({ ...own, service: false }), "stock", "order.created", handler as never)],
      shop: () => [emitter(made.mixin({ ...own, service: false }), "shop")]
    };
    const old = nodes.get(role);
    nodes.set(role, await made.node(`${role}-${++started}`, services[role]()));
    await old?.stop();
  };
  const node = (role: Role) => nodes.get(role) as ServiceBroker;
  const promised: string[] = [];
  let emitted = 0;
  let done = false;
  const load = async () => {
    while (!done) {
      const n = emitted++;
      const strategy = n % 2 ? "outbox" : "callback";
      const id = `order ${n}`;
      await emitterOf(node("shop"), "shop")("order.created", { n }, { id, strategy, timeoutMs: 5000 }).then(
        () => promised.push(id),
        () => undefined
      );
      await new Promise(resolve => setTimeout(resolve, 10));
    }
  };
  const all = async (options: ReliableOptions) => {
    for (const role of roles) await start(role, options);
  };
  const parked = () => node("desk").call<{ total: number }, object>("reliable.parked", {});

  await all({});
  await subscribed(node("desk"), 1);
  const loading = load();
  await until(() => promised.length > 50);
  await all({ signingKey: KEY });
  // The operator's rule: none has come for longer than the longest delay.
  const quiet = async () => {
    const { signing } = await node("desk").call<Health, object>("reliable.health", {});
    const last = /unsigned: (\d.*)\)/.exec(signing)?.[1];
    return last === undefined || Date.now() - Date.parse(last) > 2 * (DELAYS.at(-1) as number);
  };
  await until(quiet, Boolean, 30_000);
  await all({ signingKey: KEY, signing: "require" });
  await all({ signingKey: [KEY, NEXT], signing: "require" });
  await all({ signingKey: [NEXT, KEY], signing: "require" });
  const before = promised.length;
  await until(() => promised.length > before + 50);
  done = true;
  await loading;
  expect(promised.length).toBeGreaterThan(150);
  for (const id of promised) await reaches(node("desk"), id, "consumed");
  expect((await parked()).total).toBe(0);
});
