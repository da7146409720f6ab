import type { Context } from "moleculer";
import type { Origin } from "../src/message/message";
import type { ReliableLocals } from "./reliable-context";

/** What of an emit's context goes on to the handlers. */
export function originOf(
  ctx: Context | undefined,
  caller: string,
  nodeID: string,
  headers?: Record<string, unknown>
): Origin {
  const traceparent = traceparentOf(ctx, headers);
  if (!ctx) return traceparent === undefined ? { caller, nodeID } : { caller, nodeID, traceparent };
  const { requestID, level, tracing } = ctx;
  // An open span of the user's is the parent, as in Moleculer's own `Context.create`.
  const id = (ctx as { span?: { id?: string } | null }).span?.id ?? ctx.id;
  return {
    caller,
    nodeID,
    ...(requestID ? { requestID } : {}),
    ...(id ? { parentID: id } : {}),
    ...(typeof level === "number" ? { level } : {}),
    ...(typeof tracing === "boolean" ? { tracing } : {}),
    ...(traceparent && { traceparent })
  };
}

/** W3C Trace Context; what has another shape is not sent on. */
const TRACEPARENT = /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}(-[\da-f-]{0,100})?$/;

/** From the emit's headers; else from the context: its headers (0.15), its meta, or the reliable delivery it is of. */
function traceparentOf(ctx: Context | undefined, headers: Record<string, unknown> | undefined): string | undefined {
  const {
    headers: own,
    meta,
    locals
  } = (ctx ?? {}) as {
    headers?: Record<string, unknown>;
    meta?: Record<string, unknown>;
    locals?: { reliable?: ReliableLocals };
  };
  const found = headers?.traceparent ?? own?.traceparent ?? meta?.traceparent ?? locals?.reliable?.traceparent;
  return typeof found === "string" && TRACEPARENT.test(found) ? found : undefined;
}
