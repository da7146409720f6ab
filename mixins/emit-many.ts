import type { Context } from "moleculer";
import type { EmitOptions } from "../src/emit/emit-options";
import { type EmitItem, type EmitOutcome, emitMany } from "../src/emit/many";
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
  const { emitter } = runtime;
  const ctx = (options?.ctx ?? options?.parentCtx) as Context | undefined;
  const locals = ctx?.locals as { reliable?: ReliableLocals } | undefined;
  const source = {
    service: this.fullName,
    options: service,
    origin: originOf(ctx, this.fullName, this.broker.nodeID),
    meta: ctx?.meta as Record<string, unknown> | undefined,
    session: locals?.reliable?.session
  };
  return emitMany(items, options, {
    check: (event, payload, own) => emitter.check(source, event, payload, own),
    emit: (event, payload, own) => this.reliableEmit(event, payload, own),
    joined: emitter.joined(source, options)
  });
}
