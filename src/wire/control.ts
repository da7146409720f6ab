import { hasControl } from "../platform/printable";
import { WIRE_VERSION } from "./envelope";
import { parseJson, Unreadable } from "./json";

export const CONTROL_TYPE = "reliable.control";

const MAX_CONTROL_BYTES = 4096;

/** To all consuming nodes: the pauses of this group have changed. It says to look, not what will be seen. */
export interface Control {
  v: number;
  group: string;
}

export function controlOf(group: string): Buffer {
  return Buffer.from(JSON.stringify({ v: WIRE_VERSION, group } satisfies Control));
}

/** Throws Unreadable. */
export function parseControl(body: Buffer): Control {
  const value = parseJson(body, "control message", MAX_CONTROL_BYTES) as Partial<Control> | null;
  if (value?.v !== WIRE_VERSION) throw new Unreadable("unknown version of a control message");
  if (typeof value.group !== "string" || value.group === "" || hasControl(value.group))
    throw new Unreadable("control message that names no group");
  return { v: value.v, group: value.group };
}
