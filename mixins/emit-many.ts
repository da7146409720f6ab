import type { EmitItem, EmitOptions } from "../src/emit/emit-options";
import type { EmitOutcome } from "../src/emit/strategy";
import { contextOf, ofContext } from "./emit";
import { originOf } from "./emit-origin";
import type { Mixed, State } from "./service-state";

/** See `emitMany`. */
export async function reliableEmitMany(
  this: Mixed,
  items: EmitItem[],
  options: EmitOptions = {}
): Promise<EmitOutcome[]> {
  const { runtime, options: service } = this.$reliable as State;
  const ctx = contextOf(options);
  const origin = originOf(ctx, this.fullName, this.broker.nodeID);
  const source = { service: this.fullName, options: service, origin, ...ofContext(ctx) };
  return runtime.emitter.many(source, items, options, (event, payload, own) => this.reliableEmit(event, payload, own));
}
