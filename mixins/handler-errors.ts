import type { Broker } from "./node";

/** What happened to one delivery on its way through the middlewares. */
export interface Recorder {
	reached: boolean;
	error?: unknown;
}

/** By context. */
export const recorders = new WeakMap<object, Recorder>();
const patched = new WeakSet<object>();

/**
 * On Moleculer 0.14 the ErrorHandler middleware swallows what an event's handler, validator or middleware throws, so a failed event
 * looks successful. It calls the broker's `errorHandler` first, on both lines: that is where the failure is seen.
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
