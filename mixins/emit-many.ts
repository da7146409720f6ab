import type { Context } from "moleculer";
import type { EmitItem, EmitOptions } from "../src/emit/emit-options";
import type { EmitOutcome } from "../src/emit/strategy";
import { originOf } from "./emit-origin";
import type { ReliableLocals } from "./reliable-context";
import type { Mixed, State } from "./service-state";

/** See `emitMany`. */
export async function reliableEmitMany(
  this: Mixed,
  items: EmitItem[],
  options: EmitOptions = {}
): Promise<EmitOutcome[]> {
  const { runtime, options: service } = this.$reliable as State;
  const ctx = (options?.ctx ?? options?.parentCtx) as Context | undefined;
  const locals = ctx?.locals as { reliable?: ReliableLocals } | undefined;
  const source = {
    service: this.fullName,
    options: service,
    origin: originOf(ctx, this.fullName, this.broker.nodeID),
    meta: ctx?.meta as Record<string, unknown> | undefined,
    session: locals?.reliable?.session
  };
  return runtime.emitter.many(source, items, options, (event, payload, own) => this.reliableEmit(event, payload, own));
}
