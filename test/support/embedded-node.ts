import type { Context, ServiceSchema } from "moleculer";
import { ServiceBroker } from "moleculer";
import { ReliableEmit } from "../../src";
import { onTold, tell } from "./parent";
import { storeOf } from "./runtime";

/** What the parent wants of this node. */
export interface EmbeddedNode {
  path: string;
  /** Emits under way at a time; 0 = only what it is told to. */
  load: number;
}

interface Emitter {
  reliableEmit(event: string, payload: unknown, options?: { id?: string; waitFor?: string }): Promise<{ id: string }>;
}

/**
 * A node on an embedded store in files, to be killed or stopped. Tells "opening", "started", and "promised" with each id
 * of its load. Told "emit" or "write", it does so once and answers with the error's type.
 */
async function main(): Promise<void> {
  const { path, load } = JSON.parse(process.env["NODE"] ?? "{}") as EmbeddedNode;
  const broker = new ServiceBroker({ logger: { type: "Console", options: { level: "warn" } } } as never);
  const mixins = [ReliableEmit({ path, emitTimeoutMs: 3000, sweepEveryMs: 300 })];
  broker.createService({ name: "orders", mixins } as unknown as ServiceSchema);
  const handler = (_: Context) => Promise.resolve();
  const events = { "order.created": { reliable: true, handler } };
  broker.createService({ name: "stock", mixins, events } as unknown as ServiceSchema);
  await tell("opening");
  await broker.start();
  const orders = broker.getLocalService("orders") as unknown as Emitter;
  const emit = () => orders.reliableEmit("order.created", { pad: "x".repeat(300) });
  const typeOf = (done: Promise<unknown>) =>
    done.then(
      () => "none",
      error => (error as { type?: string }).type ?? String(error)
    );
  onTold("emit", () => void typeOf(emit()).then(type => tell("emitted", type)));
  onTold("write", () => void typeOf(storeOf(broker).probe()).then(type => tell("wrote", type)));
  onTold("health", () => void broker.call("reliable.health", {}).then(health => tell("health", health)));
  await tell("started");
  for (let i = 0; i < load; i++) void emitOn(emit);
}

async function emitOn(emit: () => Promise<{ id: string }>): Promise<void> {
  for (;;) await tell("promised", (await emit()).id);
}

void main();
