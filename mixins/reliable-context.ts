import type { Context, Service } from "moleculer";
import type { Replay } from "../src/message/message";
import type { Envelope } from "../src/wire/envelope";

/** Of a delivery by `reliable.replay`. */
export interface ReplayLocals {
  /** Of the bulk act: `reliable.bulks { id }` tells by whom, and why. */
  id: string;
  /** Of the message that was made for it, which `reliable.get` shows. */
  messageID: string;
  /** It is handled even if this group has handled the original. */
  again: boolean;
}

export function replayLocals({ bulk: id, again }: Replay, messageID: string): ReplayLocals {
  return { id, messageID, again: again === true };
}

/** Kept on `ctx.locals` of a reliable delivery; handlers may read it. */
export interface ReliableLocals {
  /** The message's; of a replayed one that of its original. */
  id: string;
  attempt: number;
  group: string;
  /** There if an operator has sent it again to this group. */
  replay?: ReplayLocals;
  /** MongoDB session of the inbox transaction, with `inbox: "transaction"`. */
  session?: unknown;
  /**
   * With `inbox: "transaction"`: number of the run within the attempt, from 1. A run whose transaction lost a conflict
   * was undone, and the next one follows.
   */
  run?: number;
  /**
   * Of a message with an order key: the key, and which turn of it this is in the group. It grows with each message: what
   * has stored a greater one must not be changed by this one.
   */
  order?: { key: string; turn: number };
  /** W3C trace context of the emit, where it had one; on 0.15 also in `ctx.headers`. */
  traceparent?: string;
}

/** Moleculer's inner parts that a delivery needs; private there, pinned by `event-context` tests on both lines. */
export interface InnerEvent {
  name: string;
  group?: string;
  handler(ctx: Context): unknown;
}

export interface InnerBroker {
  middlewares: {
    wrapHandler(
      hook: "localEvent",
      handler: (ctx: Context) => Promise<unknown>,
      event: InnerEvent
    ): (ctx: Context) => Promise<unknown>;
  };
  ContextFactory: { create(broker: unknown, endpoint: unknown, params: unknown, options: unknown): Context };
}

/** Of an event's handler; all contexts of its deliveries share it. */
export function endpointOf(broker: InnerBroker, service: Service, event: InnerEvent): object {
  return { id: service.broker.nodeID, event, broker, service, node: null, local: true, state: true };
}

export function contextOf(
  broker: InnerBroker,
  endpoint: object,
  envelope: Envelope,
  baseGroup: string,
  locals: ReliableLocals
): Context {
  const { origin, meta } = envelope;
  const { traceparent } = origin;
  const ctx = broker.ContextFactory.create(broker, endpoint, envelope.payload, {
    requestID: origin.requestID,
    meta,
    headers: traceparent ? { ...envelope.headers, traceparent } : envelope.headers,
    caller: origin.caller ?? envelope.producer,
    parentCtx: origin.parentID
      ? { id: origin.parentID, requestID: origin.requestID, tracing: origin.tracing, level: origin.level ?? 0, meta }
      : undefined
  });
  if (origin.nodeID) ctx.nodeID = origin.nodeID;
  ctx.eventName = envelope.event;
  ctx.eventType = "emit";
  ctx.eventGroups = [baseGroup];
  (ctx.locals as { reliable: ReliableLocals }).reliable = traceparent ? { ...locals, traceparent } : locals;
  return ctx;
}
