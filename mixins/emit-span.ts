import type { Context, Service, Span } from "moleculer";
import type { EmitOptions } from "../src/emit";
import type { Origin } from "../src/message/message";
import type { EmitResult } from "../src/strategies/strategy";
import { originOf } from "./emit-origin";

/**
 * An emit as the handlers will see it, in a span of its own where tracing is enabled: a child of the context's span, and the parent of
 * every handler's event span, first delivery and resends alike. Not by `ctx.startSpan`, whose stack cannot hold two emits at a time.
 */
export async function inSpan(service: Service, ctx: Context | undefined, event: string, options: EmitOptions, emit: (origin: Origin) => Promise<EmitResult>): Promise<EmitResult> {
	const { broker, fullName } = service;
	const origin = originOf(ctx, fullName, broker.nodeID, options?.headers);
	if (!broker.isTracingEnabled()) return emit(origin);
	const span = startSpan(service, ctx, event, options);
	try {
		const result = await emit({ ...origin, requestID: span.traceID, parentID: span.id, tracing: span.sampled });
		span.addTags({ id: result.id, status: result.status });
		return result;
	} catch (error) {
		span.setError(error as Error);
		throw error;
	} finally {
		span.finish();
	}
}

function startSpan(service: Service, ctx: Context | undefined, event: string, options: EmitOptions): Span {
	const { strategy, groups, waitFor } = options ?? {};
	const tags = { eventName: event, ...(strategy && { strategy }), ...(groups && { groups }), ...(waitFor && { waitFor }) };
	const name = `reliable emit '${String(event)}'`;
	const parent = (ctx as { span?: Span | null } | undefined)?.span;
	if (parent) return parent.startSpan(name, { service, tags });
	const above = ctx && { ...(ctx.requestID && { traceID: ctx.requestID }), parentID: ctx.id, sampled: ctx.tracing ?? undefined };
	return service.broker.tracer.startSpan(name, { service, tags, ...above });
}
