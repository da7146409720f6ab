import type { Service } from "moleculer";
import type { Consumer } from "../src/consumer/consumer";
import { ReliableError } from "../src/errors";
import type { ServiceOptions } from "../src/options/options";
import { hasControl } from "../src/platform/printable";
import type { Runtime } from "../src/runtime/runtime";
import type { Schema } from "./reliable-events";

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

/** Rejects with RELIABLE_BAD_OPTION: an observer's services neither emit nor handle events, nor answer for what they emitted. */
export async function acquire(this: Mixed): Promise<void> {
  const { runtime, options } = this.$reliable as State;
  if (runtime.options.observer)
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The node has 'observer: true', so the service '${this.fullName}' can neither emit nor handle events reliably on it; a ReliableService({ observer: true }) needs a Moleculer broker of its own.`,
      { option: "observer", service: this.fullName }
    );
  if ((await runtime.acquire(this)) && options.strategy === "callback") runtime.prepareChecks(options.checkDelaysMs);
}

export async function release(this: Mixed): Promise<void> {
  await (this.$reliable as State).runtime.release(this);
}

/** The hooks are called as methods of the service. */
export function bound(options: ServiceOptions, service: Service): ServiceOptions {
  const { encode, decode, onDead } = options;
  return { ...options, encode: encode?.bind(service), decode: decode?.bind(service), onDead: onDead?.bind(service) };
}

/** Names travel and are shown to people. Throws RELIABLE_BAD_OPTION. */
export function checkName({ name, version = "" }: Schema): void {
  if (!hasControl(`${version}${name}`)) return;
  throw new ReliableError("RELIABLE_BAD_OPTION", "The name and version of a service must have no control characters.", {
    option: "name"
  });
}
