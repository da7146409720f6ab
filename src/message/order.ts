import { hasControl } from "../platform/printable";
import { isFinal, isUnsent, STATUS, type Status } from "./lifecycle";

/** What becomes of a key when one of its messages has failed for good in a group. */
export const ON_DEAD = ["hold", "skip"] as const;
export type OnDead = (typeof ON_DEAD)[number];

/** Messages with one key reach each group in the order of their emits, one at a time. */
export interface Order {
  key: string;
  /** Absent = the key is held. */
  onDead?: "skip";
}

const MAX_KEY_BYTES = 200;

/** Text of 1 to 200 bytes without control characters, not blank, and no name that every object has. */
export function isOrderKey(key: unknown): key is string {
  return (
    typeof key === "string" &&
    key.trim() !== "" &&
    Buffer.byteLength(key) <= MAX_KEY_BYTES &&
    !hasControl(key) &&
    key !== "__proto__"
  );
}

/** No key has it: places of one key would else stand among those of another. */
const BEFORE_NUMBER = "\u0001";
/** Sorts behind all digits. */
const NOT_YET = "~";
const DIGITS = 12;

/** Greater than any number of a place. */
export const LAST = 10 ** DIGITS - 2;

/**
 * When a message is due that stands in line behind others: never, by itself. It has one all the same, since a row
 * without `dueAt` is one about which nothing is to be done any more. Of the due index it costs a search nothing.
 */
export const BEHIND_AT = new Date("9999-12-31T23:59:59.999Z");

/** It stands in line behind others in all groups that wait for it. */
export function isBehind({ status, dueAt }: { status: Status; dueAt?: Date }): boolean {
  return !isUnsent(status) && dueAt?.getTime() === BEHIND_AT.getTime();
}

const digitsOf = (number: number) => String(number).padStart(DIGITS, "0");

/** More than a publish, its confirm and its record take. */
const TURN_CLAIM_MS = 15_000;

/** How long a claim holds of what is published because it has its turn: so long its key stands still if a process dies. */
export function turnClaimMs(claimMs: number): number {
  return Math.min(claimMs, TURN_CLAIM_MS);
}

/** One text, so that many places of many keys are one look into one index, and those of a key are in order. */
export function placeOf(key: string, number: number): string {
  return `${key}${BEFORE_NUMBER}${digitsOf(number)}`;
}

/**
 * Of one that the store has without a number: it is in the transaction of a session, scheduled, or an intent. `together`:
 * a name for what is numbered together, `within`: which of them it is, from 0.
 */
export function placeToCome(key: string, together: string, within = 0): string {
  return `${key}${BEFORE_NUMBER}${NOT_YET}${together}.${digitsOf(within)}`;
}

/** A place to come, in its parts. */
export function comingOf(place: string): { together: string; within: number } {
  const dot = place.lastIndexOf(".");
  return { together: place.slice(0, dot), within: Number(place.slice(dot + 1)) };
}

/** Places that are numbered, up to a number; from another one on. */
export function placesOf(key: string, last: number, first = 0): { $gte: string; $lt: string } {
  return { $gte: placeOf(key, first), $lt: placeOf(key, last + 1) };
}

/** Places to come. */
export function placesToCome(key: string): { $gte: string; $lt: string } {
  return { $gte: `${key}${BEFORE_NUMBER}${NOT_YET}`, $lt: `${key}${BEFORE_NUMBER}\u007f` };
}

/** Undefined = it has none (yet). */
export function numberOf(place: string | undefined): number | undefined {
  const number = place?.slice(place.lastIndexOf(BEFORE_NUMBER) + 1);
  return number && /^\d+$/.test(number) ? Number(number) : undefined;
}

interface InLine {
  status: Status;
  waiting: string[];
  failed?: string[];
  order?: Order;
}

/** Whether those behind it wait for what this group does with it. */
export function isInLine({ status, waiting, failed = [], order }: InLine, group: string): boolean {
  if (isFinal(status) || isUnsent(status) || status === STATUS.intended) return false;
  return waiting.includes(group) || (failed.includes(group) && order?.onDead !== "skip");
}

/** Likewise, and nobody but a human can do something about it. */
export function holdsKey({ failed = [], order }: InLine, group: string): boolean {
  return order !== undefined && order.onDead !== "skip" && failed.includes(group);
}
