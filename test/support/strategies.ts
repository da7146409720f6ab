import type { Context, ServiceBroker, ServiceSchema } from "moleculer";
import type { ReliableLocals } from "../../mixins/reliable-context";
import type { ReliableOptions } from "../../src";
import type { Delivery, Publication } from "../../src/couriers/courier";
import { type Cluster, cluster } from "./brokers";
import { courierOf, storeOf } from "./runtime";
import { consumer, type Emit, emitter, emitterOf, subscribed } from "./services";

/** What a strategy promises beside what both do; the one suite of both asks for it by name. */
export interface StrategyFeatures {
  name: "outbox" | "callback";
  /** Joins the caller's MongoDB transaction. */
  session: boolean;
  /** The row is in the store when the emit resolves. */
  storedAtOnce: boolean;
  /** Status an emit resolves with by itself. */
  resolvesAs: "pending" | "published";
  /** A used id is known before the business write of a second emit with it. */
  knowsIds: boolean;
}

export const STRATEGIES: readonly StrategyFeatures[] = [
  { name: "outbox", session: true, storedAtOnce: true, resolvesAs: "pending", knowsIds: true },
  { name: "callback", session: false, storedAtOnce: false, resolvesAs: "published", knowsIds: false }
];

/** Rounds that a test can wait for. */
export const LADDER = [300, 600, 1200];

export type Handler = (ctx: Context<never>) => unknown;

export const localsOf = (ctx: Context<never>) => (ctx.locals as { reliable: ReliableLocals }).reliable;

export interface World {
  made: Cluster;
  broker: ServiceBroker;
  emit: Emit;
}

/** One node with a group for each handler, and the service `shop` that emits with this strategy. */
export async function world(
  strategy: "outbox" | "callback",
  groups: Record<string, Handler>,
  { options = {}, more = [] as object[], event = {} as object } = {}
): Promise<World> {
  const made = cluster();
  const given: ReliableOptions = {
    ...{ strategy, checkDelaysMs: LADDER, sources: ["asked.happened"] },
    // By its payload a row of `callback` tells that its check has come, too.
    keepCallbackBodies: true,
    ...options
  };
  const services = Object.entries(groups).map(([name, handler]) =>
    consumer(made.mixin(), name, "order.created", handler, event)
  );
  const broker = await made.node("node-1", [emitter(made.mixin(given), "shop"), ...services, ...more]);
  await subscribed(broker, services.length);
  return { made, broker, emit: emitterOf(broker, "shop") };
}

/** A service whose action `happened` is what the given function says: a `source`. */
export function asked(answer: (params: unknown) => unknown, name = "asked"): ServiceSchema {
  return { name, actions: { happened: (ctx: Context<unknown>) => answer(ctx.params) } } as unknown as ServiceSchema;
}

/** Whatever waits is due at once, as if the time had passed. */
export async function makeDue(broker: ServiceBroker, id: string): Promise<void> {
  const store = storeOf(broker);
  const now = new Date();
  const claim = `test#${id}#${now.getTime()}#${Math.random()}`;
  const [row] = await store.messages.claim({
    now,
    until: new Date(now.getTime() + 60_000),
    claim,
    checked: true,
    ids: [id]
  });
  if (!row) throw new Error(`Message ${id} is not there, or somebody has it.`);
  await store.messages.rescheduled([
    { id, claim, dueAt: now, next: Object.fromEntries(row.waiting.map(group => [group, now])) }
  ]);
}

/** Options of a node that has RabbitMQ alone. */
export const AMQP_ONLY: ReliableOptions = { mongo: undefined, redis: undefined, database: undefined };

/** What a node publishes from now on: kind, attempt or round, and where it goes. */
export function tap(broker: ServiceBroker): Publication[] {
  const seen: Publication[] = [];
  const courier = courierOf(broker);
  const publish = courier.publish.bind(courier);
  courier.publish = publication => {
    seen.push(publication);
    return publish(publication);
  };
  return seen;
}

/** Moleculer middleware of a producer's node: counts the resends asked of it. */
export function countingResends(): { asked: string[]; middleware: object } {
  const asked: string[] = [];
  const localAction = (next: (ctx: Context<{ id: string }>) => unknown, action: { name: string }) =>
    action.name.endsWith(".reliableResend")
      ? (ctx: Context<{ id: string }>) => {
          asked.push(ctx.params.id);
          return next(ctx);
        }
      : next;
  return { asked, middleware: { name: "counting", localAction } };
}

/** As a group in another language sends it: with the echo of the delivery. */
export function echoOf(delivery: Delivery): { event: string; producer: string; plan: string } {
  return {
    event: delivery.type as string,
    producer: delivery.appId as string,
    plan: delivery.headers["x-reliable-echo"] as string
  };
}
