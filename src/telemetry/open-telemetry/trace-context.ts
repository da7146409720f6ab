import type { Origin } from "../../message/message";
import { isTracestate } from "../../wire/envelope";
import type { Carrier, SpanContext } from "./api";

/** The part of an origin that is W3C's. */
type Trace = Pick<Origin, "traceparent" | "tracestate">;

/** Version 00, which is what the API knows; of a later one the first four parts mean the same. */
const TRACEPARENT = /^[\da-f]{2}-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/;

/** Of a message, as its headers say it. Undefined = it has none. */
export function carrierOf({ traceparent, tracestate }: Origin): Carrier | undefined {
  if (traceparent === undefined) return undefined;
  return tracestate === undefined ? { traceparent } : { traceparent, tracestate };
}

/** What a propagator has written, as far as it goes with a message. Undefined = no W3C Trace Context is among it. */
export function traceOf({ traceparent, tracestate }: Partial<Carrier>): Trace | undefined {
  if (typeof traceparent !== "string" || !TRACEPARENT.test(traceparent)) return undefined;
  return isTracestate(tracestate) ? { traceparent, tracestate } : { traceparent };
}

/** Where the propagators of this process are not those of W3C: a message tells its context to others all the same. */
export function write({ traceId, spanId, traceFlags }: SpanContext): Trace {
  return { traceparent: `00-${traceId}-${spanId}-${(traceFlags & 0xff).toString(16).padStart(2, "0")}` };
}

/** Undefined = it has another shape. */
export function read({ traceparent }: Carrier): SpanContext | undefined {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent ?? "") ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
}
