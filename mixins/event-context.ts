import type { Service } from "moleculer";
import type { HandlerEnd, HandlerExtras } from "../src/consumer/consumer-parts";
import { handlerNotReached } from "../src/errors";
import type { Envelope } from "../src/wire/envelope";
import type { Broker } from "./broker";
import { type Recorder, recordErrors, recorders, throwable } from "./handler-errors";
import { contextOf, endpointOf, type InnerBroker, type InnerEvent, replayLocals } from "./reliable-context";

interface InnerService {
  _serviceSpecification: { events: Record<string, InnerEvent> };
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
  const endpoint = endpointOf(inner, service, event);
  return async (envelope, extras) => {
    const recorder: Recorder = { reached: false };
    try {
      const ctx = contextOf(inner, endpoint, envelope, baseGroup, {
        id: envelope.replay?.of ?? envelope.id,
        attempt: envelope.attempt,
        group,
        ...(envelope.replay && { replay: replayLocals(envelope.replay, envelope.id) }),
        ...(envelope.order && { order: envelope.order }),
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
