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

/** What a node that does none of the cluster's work has begun: bulk acts, or messages that are due. */
export const LOOKS = ["bulks", "due"] as const;

export type Look = (typeof LOOKS)[number];

/** To all nodes that sweep: there is something of this kind to be done. It says to look, not what will be seen. */
export interface SweepNews {
  v: number;
  look: Look;
}

export function sweepNewsOf(look: Look): Buffer {
  return Buffer.from(JSON.stringify({ v: WIRE_VERSION, look } satisfies SweepNews));
}

/** Throws Unreadable. */
export function parseSweepNews(body: Buffer): SweepNews {
  const { v, look } = parsed<SweepNews>(body);
  const known = LOOKS.find(each => each === look);
  if (!known) throw new Unreadable("control message that does not say what to look for");
  return { v, look: known };
}

export function controlOf(group: string): Buffer {
  return Buffer.from(JSON.stringify({ v: WIRE_VERSION, group } satisfies Control));
}

/** Throws Unreadable. */
export function parseControl(body: Buffer): Control {
  const { v, group } = parsed<Control>(body);
  if (typeof group !== "string" || group === "" || hasControl(group))
    throw new Unreadable("control message that names no group");
  return { v, group };
}

function parsed<T extends { v: number }>(body: Buffer): Partial<T> & { v: number } {
  const value = parseJson(body, "control message", MAX_CONTROL_BYTES) as Partial<T> | null;
  if (value?.v !== WIRE_VERSION) throw new Unreadable("unknown version of a control message");
  return { ...value, v: WIRE_VERSION };
}
