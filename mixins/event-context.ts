import type { Context, Service } from "moleculer";
import type { HandlerEnd, HandlerExtras } from "../src/consumer/consumer";
import { handlerNotReached } from "../src/errors";
import type { Envelope } from "../src/wire/envelope";
import type { Broker } from "./broker";
import { type Recorder, recordErrors, recorders, throwable } from "./handler-errors";

/** Kept on `ctx.locals` of a reliable delivery; handlers may read it. */
export interface ReliableLocals {
  id: string;
  attempt: number;
  group: string;
  /** MongoDB session of the inbox transaction, with `inbox: "transaction"`. */
  session?: unknown;
  /** W3C trace context of the emit, where it had one; on 0.15 also in `ctx.headers`. */
  traceparent?: string;
}

/** Moleculer's inner parts that a delivery needs; private there, pinned by `event-context` tests on both lines. */
interface InnerEvent {
  name: string;
  group?: string;
  handler(ctx: Context): unknown;
}

interface InnerService {
  _serviceSpecification: { events: Record<string, InnerEvent> };
}

interface InnerBroker {
  middlewares: {
    wrapHandler(
      hook: "localEvent",
      handler: (ctx: Context) => Promise<unknown>,
      event: InnerEvent
    ): (ctx: Context) => Promise<unknown>;
  };
  ContextFactory: { create(broker: unknown, endpoint: unknown, params: unknown, options: unknown): Context };
}

/**
 * The service's own event handler behind all middlewares (validator, tracing, metrics, the user's), called with a
 * context rebuilt from an envelope. The returned function never rejects. It succeeded only if the handler was reached
 * and nothing below the ErrorHandler middleware rejected.
 */
export function eventHandler(
  service: Service,
  pattern: string,
  baseGroup: string,
  group: string
): (envelope: Envelope, extras: HandlerExtras) => Promise<HandlerEnd> {
  const broker = service.broker as Broker;
  recordErrors(broker);
  const event = (service as unknown as InnerService)._serviceSpecification.events[pattern] as InnerEvent;
  const inner = broker as unknown as InnerBroker;
  const handler = innermost(event);
  const wrapped = inner.middlewares.wrapHandler(
    "localEvent",
    async ctx => {
      const recorder = recorders.get(ctx);
      if (recorder) recorder.reached = true;
      try {
        return await handler(ctx);
      } catch (thrown) {
        throw throwable(thrown);
      }
    },
    event
  );
  return async (envelope, extras) => {
    const recorder: Recorder = { reached: false };
    try {
      const ctx = contextOf(inner, service, event, envelope, baseGroup, {
        id: envelope.id,
        attempt: envelope.attempt,
        group,
        ...extras
      });
      recorders.set(ctx, recorder);
      await wrapped(ctx);
    } catch (error) {
      recorder.error ??= error ?? new Error("unknown error");
    }
    if (recorder.error !== undefined) return { error: recorder.error, rejected: !recorder.reached };
    return recorder.reached ? {} : { error: handlerNotReached(envelope.event, group), rejected: true };
  };
}

const unwrapped = new WeakMap<InnerEvent, InnerEvent["handler"]>();

/**
 * Older 0.14 replace the handler in place by the wrapped one when the service is registered, which is after its first
 * `started`.
 */
function innermost(event: InnerEvent): InnerEvent["handler"] {
  const handler = unwrapped.get(event) ?? event.handler;
  unwrapped.set(event, handler);
  return handler;
}

function contextOf(
  broker: InnerBroker,
  service: Service,
  event: InnerEvent,
  envelope: Envelope,
  baseGroup: string,
  locals: ReliableLocals
): Context {
  const { origin, meta } = envelope;
  const { traceparent } = origin;
  const { nodeID } = service.broker;
  const endpoint = { id: nodeID, event, broker, service, node: null, local: true, state: true };
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
