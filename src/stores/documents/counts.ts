import { isFinal, type Status } from "../../message/lifecycle";
import { type Count, EPOCH, type Filter } from "./collection";

/**
 * Up to so many are counted. What waits for somebody is exact as long as a human could mean it; what is finished has no
 * end, and counting it would take longer from day to day.
 */
export const COUNTED = { live: 100_000, final: 10_000 } as const;

/**
 * What is read again and again while somebody looks must take as long beside 100,000 dead messages as beside 1,000: the
 * total of a list, and the rows that are looked at for it, or for causes.
 */
export const LOOKED_AT = 1000;

/** All rows, counted by the index alone: without a condition every one would be read. */
export const ANY_TIME: Filter = { at: { $gte: EPOCH } };

export function countedOf(statuses: readonly Status[]): number {
  return statuses.some(isFinal) ? COUNTED.final : COUNTED.live;
}

/** The total of a list from its count, and from its page: one that is not full is the end. */
export function totalOf(
  { counted, more }: Count,
  rows: number,
  offset: number,
  limit: number
): { total: number; capped: boolean } {
  if (!more) return { total: counted, capped: false };
  if (rows > 0 && rows < limit) return { total: offset + rows, capped: false };
  return { total: Math.max(counted, rows && offset + rows), capped: true };
}
