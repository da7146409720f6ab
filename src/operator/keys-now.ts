import type { LaneStore } from "../stores/lane-store";
import { type HeldKeyRow, heldKeyRow } from "./held-keys";

/**
 * How many messages hold their order key, and how many wait for their turn, whatever for: in all groups that wait for them.
 * One that another group has just handled counts when it was looked at next, within its `receiptTimeoutMs`.
 */
export interface KeysNow {
  held: number;
  behind: number;
  /** Of these there are more. */
  capped: ("held" | "behind")[];
  /** Those held longest. */
  longest: HeldKeyRow[];
}

/** Each number is counted up to this: they are read every few seconds. */
export const KEYS_COUNTED = 10_000;

/** What stands behind each of these is counted. */
const SHOWN = 3;

export async function keysNow(lanes: Pick<LaneStore, "counts" | "held">, now: number): Promise<KeysNow> {
  const counts = await lanes.counts(KEYS_COUNTED);
  const { held, behind } = counts;
  const isAny = held.counted > 0 || held.more;
  const longest = isAny ? (await lanes.held(SHOWN)).keys.slice(0, SHOWN) : [];
  return {
    held: held.counted,
    behind: behind.counted,
    capped: (["held", "behind"] as const).filter(name => counts[name].more),
    longest: longest.map(each => heldKeyRow(each, now))
  };
}
