import type { Service } from "moleculer";
import type { Consumer } from "../src/consumer/consumer";
import type { ServiceOptions } from "../src/options/options";
import type { Runtime } from "../src/runtime/runtime";

/** Kept on the service instance: never in the schema, which is cloned and published. */
export interface State {
  runtime: Runtime;
  given: Record<string, unknown>;
  options: ServiceOptions;
  consumers: Consumer[];
}

export type Mixed = Service & { $reliable?: State };

export type Hook = (this: Mixed) => unknown;

export function hooks(value: unknown): Hook[] {
  return value === undefined ? [] : ([value].flat() as Hook[]);
}

export async function acquire(this: Mixed): Promise<void> {
  await (this.$reliable as State).runtime.acquire(this);
}

export async function release(this: Mixed): Promise<void> {
  await (this.$reliable as State).runtime.release(this);
}
