import type { DeadNews } from "../options/hooks";

/** Called on one instance of an emitting service that has the hook `onDead`: `<producer>.reliableDead`. */
export const DEAD_ACTION = "reliableDead";

const text = (max: number) => ({ type: "string", max });

/** Validation of a DeadNews: it comes over the transporter. */
export const DEAD_PARAMS = {
  $$strict: true,
  id: { ...text(300), empty: false },
  event: text(300),
  group: { ...text(1000), optional: true },
  cause: text(100),
  reason: text(10_000),
  diedAt: text(100),
  createdAt: text(100),
  keys: { type: "array", items: text(1000), max: 100, optional: true },
  requestID: { ...text(10_000), optional: true }
} satisfies Record<keyof DeadNews | "$$strict", unknown>;
