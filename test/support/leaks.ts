import type { EventEmitter } from "node:events";
import v8 from "node:v8";
import { ServiceBroker } from "moleculer";
import type { ReliableOptions } from "../../src";
import { Consumer } from "../../src/consumer/consumer";
import { Runtime } from "../../src/runtime/runtime";
import { type Cluster, until } from "./brokers";
import { consumer, emitter, emitterOf } from "./services";

export const ROUNDS = 50;
/** Until modules, pools and caches have come to rest. */
export const WARM_UP = 5;

const timeout = setTimeout(() => undefined, 0);
const Timeout = timeout.constructor as new () => object;
clearTimeout(timeout);

/**
 * Everything of ours or of Node.js' that a stop must not leave behind. The count of objects is taken after a
 * collection.
 */
export function held(emitters: EventEmitter[]): Record<string, number> {
  const resources: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) resources[name] = (resources[name] ?? 0) + 1;
  const listeners = emitters.map(at => at.eventNames().reduce((sum, name) => sum + at.listenerCount(name), 0));
  const { Timeout: _, ...others } = resources;
  // Unreferenced timers, too, which that list does not name.
  return {
    ...others,
    timers: v8.queryObjects(Timeout, { format: "count" }),
    runtimes: v8.queryObjects(Runtime, { format: "count" }),
    consumers: v8.queryObjects(Consumer, { format: "count" }),
    brokers: v8.queryObjects(ServiceBroker, { format: "count" }),
    ...Object.fromEntries(listeners.map((count, i) => [`listeners ${i}`, count]))
  };
}

export const node = (made: Cluster, options: ReliableOptions) => {
  const broker = new ServiceBroker({
    nodeID: `leaky-${made.namespace}`,
    namespace: made.namespace,
    logger: false,
    registry: { stopDelay: 0 } as never
  });
  broker.createService(emitter(made.mixin(options)));
  broker.createService(consumer(made.mixin(options), "stock", "order.created", () => undefined));
  return broker;
};

export async function startAndStop(made: Cluster, options: ReliableOptions): Promise<void> {
  const broker = node(made, options);
  await broker.start();
  // Both strategies, so that every part has been used.
  await Promise.all([
    emitterOf(broker)("order.created", {}, { groups: "stock", waitFor: "consumed" }),
    emitterOf(broker)("order.created", {}, { strategy: "callback" })
  ]);
  await broker.stop();
}

export async function rounds(
  made: Cluster,
  options: ReliableOptions,
  emitters: EventEmitter[] = []
): Promise<{ before: Record<string, number>; after: Record<string, number> }> {
  for (let i = 0; i < WARM_UP; i++) await startAndStop(made, options);
  const before = held([process, ...emitters]);
  for (let i = 0; i < ROUNDS; i++) await startAndStop(made, options);
  let after = before;
  // What is on its way out (sockets closing) may take its time; what is held stays.
  await until(
    () => (after = held([process, ...emitters])),
    seen => grown(before, seen).length === 0,
    10_000
  ).catch(() => undefined);
  return { before, after };
}

/** A handful of either may come and go; one a round may not stay. */
export function grown(before: Record<string, number>, after: Record<string, number>): string[] {
  return Object.entries(after).flatMap(([name, count]) =>
    count - (before[name] ?? 0) > (name.startsWith("listeners") ? 0 : ROUNDS / 5)
      ? [`${name}: ${before[name] ?? 0} → ${count}`]
      : []
  );
}
