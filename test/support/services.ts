import type { Context, Service, ServiceBroker, ServiceSchema } from "moleculer";
import type { EmitOptions, EmitResult, MessageStory, ReliableError, SubscriptionRow } from "../../src";
import { type Cluster, until } from "./brokers";
import { runtimeOf } from "./runtime";

export type Emit = (event: string, payload: unknown, options?: EmitOptions) => Promise<EmitResult>;

/** A service that does nothing but emit; `emitterOf` finds it. */
export function emitter(mixin: Partial<ServiceSchema>, name = "emitter"): ServiceSchema {
  return { name, mixins: [mixin] } as ServiceSchema;
}

/** `reliableEmit` of a service of this broker, as the service itself would call it. */
export function emitterOf(broker: ServiceBroker, name = "emitter"): Emit {
  const service = serviceOf(broker, name);
  return (event, payload, options) => service.reliableEmit(event, payload, options);
}

export function serviceOf(broker: ServiceBroker, name: string): Service {
  const service = broker.getLocalService(name) as Service | undefined;
  if (!service) throw new Error(`No service '${name}' on ${broker.nodeID}.`);
  return service;
}

/** A service with one reliable event. */
export function consumer(
  mixin: Partial<ServiceSchema>,
  name: string,
  event: string,
  handler: (ctx: Context<never>) => unknown,
  more: object = {}
): ServiceSchema {
  return {
    name,
    mixins: [mixin],
    events: { [event]: { reliable: true, handler, ...more } }
  } as unknown as ServiceSchema;
}

export function story(broker: ServiceBroker, id: string): Promise<MessageStory> {
  return broker.call<MessageStory, { id: string }>("reliable.get", { id });
}

/**
 * All that is known of a message once it has come to this status; one of strategy `callback` may not be known at first.
 */
export async function reaches(
  broker: ServiceBroker,
  id: string,
  status: string,
  timeoutMs?: number
): Promise<MessageStory> {
  const known = (error: ReliableError) => (error.type === "RELIABLE_NOT_FOUND" ? undefined : Promise.reject(error));
  return (await until(
    () => story(broker, id).catch(known),
    seen => seen?.status === status,
    timeoutMs
  )) as MessageStory;
}

/** Waits until the store knows this many groups, and this node too, so that its emits wait for all of them. */
export async function subscribed(broker: ServiceBroker, count: number): Promise<SubscriptionRow[]> {
  const rows = await until(
    () => broker.call<SubscriptionRow[], object>("reliable.subscriptions", {}),
    rows => rows.length === count
  );
  await runtimeOf(broker).storage?.subscriptions.refresh();
  return rows;
}

/** The error a promise or function ends with; fails when there is none. */
export async function errorOf(work: (() => unknown) | Promise<unknown>): Promise<ReliableError> {
  try {
    await (typeof work === "function" ? work() : work);
  } catch (error) {
    return error as ReliableError;
  }
  throw new Error("It did not fail.");
}

/** Emits and consumers on one node, ready to use. */
export async function oneNode(
  made: Cluster,
  services: object[],
  options: object = {}
): Promise<{ broker: ServiceBroker; emit: Emit }> {
  const broker = await made.node("node-1", [emitter(made.mixin()), ...services], options);
  return { broker, emit: emitterOf(broker) };
}
