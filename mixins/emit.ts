import type { Context, Service, Span } from "moleculer";
import type { EmitOptions } from "../src/emit/emit-options";
import type { EmitResult } from "../src/emit/strategy";
import type { Origin } from "../src/message/message";
import { originOf } from "./emit-origin";
import type { ReliableLocals } from "./reliable-context";

/** What an emit has of its context. */
interface OfContext {
  meta: Record<string, unknown> | undefined;
  /** Of the handler's transaction. */
  session: unknown;
  inHandler: boolean;
}

/** Of calls in calls; more than any sensible chain has. */
const MAX_LEVELS = 100;

type Emit = (origin: Origin, context: OfContext) => Promise<EmitResult>;

/**
 * What of the caller's context goes with an emit. Never throws, but not async either, as is all that an emit passes
 * through and that needs no `await`: thousands may be under way, and the frame of each is kept until its end.
 */
export function emit(service: Service, event: string, options: EmitOptions, to: Emit): Promise<EmitResult> {
  try {
    const { broker, fullName } = service;
    const ctx = contextOf(options);
    const origin = originOf(ctx, fullName, broker.nodeID, options?.headers);
    const context = ofContext(ctx);
    return broker.isTracingEnabled()
      ? inSpan(service, ctx, event, options, origin, from => to(from, context))
      : to(origin, context);
  } catch (error) {
    return Promise.reject(error);
  }
}

/** The one that an emit is given. */
export function contextOf(options: EmitOptions | undefined): Context | undefined {
  return (options?.ctx ?? options?.parentCtx) as Context | undefined;
}

export function ofContext(ctx: Context | undefined): OfContext {
  const locals = ctx?.locals as { reliable?: ReliableLocals } | undefined;
  return {
    meta: ctx?.meta as OfContext["meta"],
    session: locals?.reliable?.session,
    inHandler: ctx !== undefined && isOfDelivery(ctx)
  };
}

/** It is that of a reliable handler, or of an action that was called, on this node, in the course of one. */
function isOfDelivery(ctx: Context): boolean {
  let at: Context | undefined = ctx;
  for (let level = 0; at && level < MAX_LEVELS; level++) {
    if ((at.locals as { reliable?: unknown } | undefined)?.reliable) return true;
    at = (at.options as { parentCtx?: Context } | undefined)?.parentCtx;
  }
  return false;
}

/**
 * As the handlers will see it, in a span of its own: a child of the context's span, and the parent of every handler's
 * event span, first delivery and resends alike. Not by `ctx.startSpan`, whose stack cannot hold two emits at a time.
 */
async function inSpan(
  service: Service,
  ctx: Context | undefined,
  event: string,
  options: EmitOptions,
  origin: Origin,
  to: (origin: Origin) => Promise<EmitResult>
): Promise<EmitResult> {
  const span = startSpan(service, ctx, event, options);
  try {
    const result = await to({ ...origin, requestID: span.traceID, parentID: span.id, tracing: span.sampled });
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
  const tags = {
    eventName: event,
    ...(strategy && { strategy }),
    ...(groups && { groups }),
    ...(waitFor && { waitFor })
  };
  const name = `reliable emit '${String(event)}'`;
  const parent = (ctx as { span?: Span | null } | undefined)?.span;
  if (parent) return parent.startSpan(name, { service, tags });
  const above = ctx && {
    ...(ctx.requestID && { traceID: ctx.requestID }),
    parentID: ctx.id,
    sampled: ctx.tracing ?? undefined
  };
  return service.broker.tracer.startSpan(name, { service, tags, ...above });
}
