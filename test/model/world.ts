import type { Doc } from "../../src/stores/documents/collection";
import type { Scenario } from "./parts";

/** What may go wrong in one run, and how often. Without a fault everything else must come to its end. */
export interface Faults {
  /** A process dies. */
  crash?: number;
  /** A publish is lost on its way, or only its confirm is. */
  lose?: number;
  /** A handler fails. */
  fail?: number;
  /** It fails together with its neighbours: before it opened the breaker, or beside it. */
  outage?: number;
  /** A delay is over (a check's, a claim's, a backoff, the grace of an emit) while processes are still at it. */
  slow?: number;
  /** A message is gone from a group's queue. */
  purge?: number;
  /** An RPC's answer comes too late. */
  timeout?: number;
  /** A message is delivered twice. */
  duplicate?: number;
  /** The business transaction throws: refused, or committed and its answer lost. */
  commit?: number;
  /** A human retries, or resolves, a message that is dead: an act, no fault. */
  retry?: number;
  resolve?: number;
  /** Or calls one off that is scheduled. */
  cancel?: number;
  /** A human pauses the first group, and resumes it some time. */
  pause?: number;
}

export type Fault = keyof Faults;

/** After these an attempt still is made once. */
const HARMLESS: readonly Fault[] = ["fail", "outage", "purge", "retry", "resolve", "cancel", "pause"];

/** A process, or a part of one, with what it has in its hands. */
export interface Slot {
  act: number;
  /** A delivery that is not acked: queue and message. */
  held?: [queue: string, wire: number];
  /** Before it was delivered to a group, that had written down that it has handled it. */
  known?: boolean;
  /** Groups that had answered when it claimed the row. */
  answered?: string[];
  /** What it answers an RPC for: slot and index of the want. */
  caller?: [slot: string, index: number];
}

export interface State {
  /** The row of the message, by number. */
  row?: number;
  inbox: string[];
  barrier?: "committed" | "withdrawn";
  /** The business transaction: open; open while its process is dead, with or without a commit on its way. */
  transaction?: "open" | "orphaned" | "committing";
  business: boolean;
  /** Messages by number; their order does not count, any may come next. */
  queues: Record<string, number[]>;
  slots: Record<string, Slot>;
  /** The first group: it takes nothing; it has been resumed a moment ago. */
  paused?: "paused" | "lately";
  promised: boolean;
  handled: string[];
  /** Attempts that compensation has published, as `group attempt`, while nothing has gone wrong. */
  sent?: string[];
  /** Receipts that are in their queue, by group. */
  receipted: string[];
  left: Faults;
}

export interface Model {
  scenario: Scenario;
  faults: Faults;
  trackers?: number;
  checkers?: number;
  sweepers?: number;
  /** How many processes are at work at the same time; RPCs go with their callers. */
  atOnce?: number;
  /** Breaks the protocol on purpose. */
  mutation?: Mutation;
}

/** Hooks at the seams between product code and world. */
export interface Mutation {
  name: string;
  /** What a piece of code wants is changed on its way. */
  want?(effect: Record<string, unknown> & { op: string }, slot: string): Record<string, unknown> & { op: string };
  /** Done without waiting for it: answered at once, happens later. */
  eager?(effect: { op: string }, slot: string): unknown;
}

export interface Step {
  label: string;
  state: State;
  fault: boolean;
}

/** A law is broken. */
export class Broken extends Error {}

export function successor(state: State): State {
  return { ...state, queues: { ...state.queues }, slots: { ...state.slots } };
}

/** What a consumer was given just before its group was paused, and gives back. No queue of the broker. */
export const HAND = "hand";

export function take(state: State, queue: string, wire: number): void {
  const rest = [...(state.queues[queue] ?? [])];
  rest.splice(rest.indexOf(wire), 1);
  state.queues[queue] = rest;
}

export function put(state: State, queue: string, wire: number): void {
  state.queues[queue] = [...(state.queues[queue] ?? []), wire].sort((a, b) => a - b);
}

export function added(list: string[], item: string): string[] {
  return list.includes(item) ? list : [...list, item].sort();
}

export function spend(state: State, fault: Fault): boolean {
  const left = state.left[fault] ?? 0;
  if (left) state.left = { ...state.left, [fault]: left - 1 };
  // From now on an attempt may be made twice.
  if (left && !HARMLESS.includes(fault)) state.sent = undefined;
  return left > 0;
}

export function keyOf(state: State): string {
  const {
    row,
    inbox,
    barrier,
    transaction,
    business,
    queues,
    slots,
    paused,
    promised,
    handled,
    sent,
    receipted,
    left
  } = state;
  const sorted = (map: object) =>
    Object.entries(map)
      .filter(([, value]) => !Array.isArray(value) || value.length)
      .sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([
    row,
    inbox,
    barrier,
    transaction,
    business,
    sorted(queues),
    sorted(slots),
    paused,
    promised,
    handled,
    sent,
    receipted,
    sorted(left)
  ]);
}

export function statusOf(row: Doc | undefined): string {
  return row ? String(row.status) : "absent";
}
