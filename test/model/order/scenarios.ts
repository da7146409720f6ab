import type { Emitter } from "./world";

function emitter(name: string, ids: string[], more: Partial<Emitter> = {}, key = "k", onDead?: "skip"): Emitter {
  return { name, letters: ids.map(id => ({ id, key, ...(onDead && { onDead }) })), ...more };
}

/** In the order of the calls; no call waits for another. */
export const ofOne = [emitter("ann", ["m1", "m2"])];
export const ofBoth = [emitter("ann", ["m1"]), emitter("ben", ["m2"])];
const after = { after: ["m1"] };
export const inTurn = [emitter("ann", ["m1"]), emitter("ben", ["m2"], after)];
export const twoKeys = [...inTurn, emitter("dora", ["n1"], {}, "other")];
export const skipping = [emitter("ann", ["m1"], {}, "k", "skip"), emitter("ben", ["m2"], after, "k", "skip")];
export const withSession = [emitter("ann", ["m1"], { session: true }), emitter("ben", ["m2"], after)];
export const together = [...ofBoth, emitter("cleo", ["m3"], after)];
/** One with a number of its own after several others. */
export const overtaking = [emitter("ann", ["m1", "m2", "m3"]), emitter("ben", ["m4"], after)];
