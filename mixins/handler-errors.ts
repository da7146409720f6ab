import type { Broker } from "./broker";

/** What happened to one delivery on its way through the middlewares. */
export interface Recorder {
  reached: boolean;
  error?: unknown;
}

/** By context. */
export const recorders = new WeakMap<object, Recorder>();
const patched = new WeakSet<object>();

/**
 * On Moleculer 0.14 the ErrorHandler middleware swallows what an event's handler, validator or middleware throws, so a
 * failed event looks successful. It calls the broker's `errorHandler` first, on both lines: that is where the failure
 * is seen.
 */
export function recordErrors(broker: Broker): void {
  if (patched.has(broker)) return;
  patched.add(broker);
  const own = broker as unknown as { errorHandler(error: unknown, info?: { ctx?: object }): unknown };
  const original = own.errorHandler;
  own.errorHandler = function (error, info) {
    const recorder = info?.ctx && recorders.get(info.ctx);
    if (recorder) recorder.error = error ?? new Error("unknown error");
    return original.call(this, error, info);
  };
}

/**
 * What a handler threw, as an Error that Moleculer's ErrorHandler can work with. It writes `ctx` on the error, and
 * where that throws (a frozen error) 0.14 takes the event for handled; and it makes a MoleculerError, never to be
 * retried, of what is no Error at all.
 */
export function throwable(thrown: unknown): unknown {
  if (!(thrown instanceof Error))
    return new Error(typeof thrown === "string" ? thrown : `the handler threw ${describe(thrown)}`, { cause: thrown });
  try {
    Object.defineProperty(thrown, "ctx", { value: undefined, writable: true, configurable: true, enumerable: false });
    return thrown;
  } catch {
    const { name, message, stack, code, type, data, retryable } = thrown as Error &
      Record<"code" | "type" | "data" | "retryable", unknown>;
    return Object.assign(new Error(message, { cause: thrown }), {
      name,
      stack,
      code,
      type,
      data,
      ...(typeof retryable === "boolean" && { retryable })
    });
  }
}

function describe(thrown: unknown): string {
  try {
    return JSON.stringify(thrown)?.slice(0, 500) ?? String(thrown);
  } catch {
    return typeof thrown;
  }
}
