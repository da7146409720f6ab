import { isFinal, STATUS, type Status } from "../../src/message/lifecycle";
import type { Doc } from "../../src/stores/documents/collection";
import { groupsOf } from "./parts";
import type { Theatre } from "./stage";
import { Steps } from "./steps";
import { Broken, keyOf, type Model, type State, statusOf } from "./world";

/** What can be explored: everything that may happen from each state on. */
export interface World<S extends object> {
  readonly theatre: Theatre;
  /** How every way begins. */
  readonly begins: string;
  initial(): Promise<S>;
  /** Throws Broken. */
  next(state: S): Promise<{ label: string; state: S; fault: boolean }[]>;
  keyOf(state: S): string;
  /** Nothing moves any more: what kind of end is it, and what is wrong with it? */
  endOf(state: S): string;
  wrongEnd(state: S): string | undefined;
}

export interface Explored {
  states: number;
  transitions: number;
  /** Ends: nothing is left to happen. By kind. */
  ends: Record<string, number>;
  /** A shortest way to each kind of end. */
  ways: Record<string, string[]>;
  /** The law that is broken, and the shortest way there. */
  broken?: { law: string; trace: string[] };
  /** All states were seen. */
  complete: boolean;
  replays: number;
}

/** One message under a protocol. */
export function explore(model: Model, maxStates: number): Promise<Explored> {
  const steps = new Steps(model);
  const rowOf = (state: State) => steps.effects.row(state);
  const world: World<State> = {
    ...{ theatre: steps.theatre, begins: "emit", keyOf },
    initial: () => steps.initial(),
    next: state => steps.next(state),
    endOf: state => statusOf(rowOf(state)),
    wrongEnd: state => wrongEnd(state, rowOf(state), model)
  };
  return exploreWorld(world, maxStates);
}

/** Breadth first, so that the way to a broken law is the shortest; every state once. */
export async function exploreWorld<S extends object>(world: World<S>, maxStates: number): Promise<Explored> {
  const restore = world.theatre.install();
  try {
    return await search(world, maxStates);
  } finally {
    restore();
  }
}

async function search<S extends object>(world: World<S>, maxStates: number): Promise<Explored> {
  const numbers = new Map<string, number>();
  const from: number[] = [];
  const labels: string[] = [];
  const level: (S | undefined)[] = [];
  /** Edges without a fault, as pairs. */
  const calm: number[] = [];
  const good: number[] = [];
  const ends: Record<string, number> = {};
  const ways: Record<string, string[]> = {};
  let transitions = 0;

  const enter = (state: S, parent: number, label: string): number => {
    const key = world.keyOf(state);
    let number = numbers.get(key);
    if (number === undefined) {
      number = numbers.size;
      numbers.set(key, number);
      from.push(parent);
      labels.push(label);
      level.push(state);
    }
    return number;
  };
  const result = (law?: string, at?: number, last?: string): Explored => ({
    ...{
      states: numbers.size,
      transitions,
      ends,
      ways,
      complete: level.length <= maxStates,
      replays: world.theatre.replays
    },
    ...(law && { broken: { law, trace: [...traceOf(at as number, from, labels), ...(last ? [last] : [])] } })
  });

  enter(await world.initial(), -1, world.begins);
  for (let number = 0; number < level.length && number < maxStates; number++) {
    const state = level[number] as S;
    level[number] = undefined;
    try {
      let quiet = true;
      for (const { label, state: next, fault } of await world.next(state)) {
        transitions++;
        const to = enter(next, number, label);
        if (fault) continue;
        quiet = false;
        calm.push(number, to);
      }
      if (!quiet) continue;
      const end = world.endOf(state);
      ends[end] = (ends[end] ?? 0) + 1;
      ways[end] ??= traceOf(number, from, labels);
      const wrong = world.wrongEnd(state);
      if (wrong) return result(wrong, number);
      good.push(number);
    } catch (error) {
      if (error instanceof Broken) return result(error.message, number, "and then");
      throw error;
    }
  }
  const explored = result();
  if (!explored.complete) return explored;
  const stuck = firstStuck(calm, good, numbers.size);
  return stuck === undefined
    ? explored
    : result("law 2: from here it never comes to an end, though nothing more goes wrong", stuck);
}

/** Nothing moves any more: what must hold of every message now? */
function wrongEnd(state: State, row: Doc | undefined, { scenario, faults }: Model): string | undefined {
  const end = statusOf(row);
  const owed = state.promised || state.business || state.row !== undefined;
  if (!owed) return undefined;
  const open = groupsOf(scenario).filter(group => !state.handled.includes(group));
  const gone = end === STATUS.withdrawn && !state.business;
  if (end !== "absent" && end !== STATUS.dead && !isFinal(end as Status)) return `law 2: left behind as ${end}`;
  const waiting = (row?.waiting ?? []) as string[];
  if (end === STATUS.dead && waiting.length)
    return `law 9: nobody sends it to ${waiting.join(", ")} any more, because another group has failed`;
  if (scenario.intent && end === STATUS.withdrawn && state.business) return "intent: committed and withdrawn";
  const failed = (faults.fail ?? 0) - (state.left.fail ?? 0);
  if (scenario.breaker && end === STATUS.dead && failed < scenario.maxAttempts)
    return `law 5: an outage has killed it: only ${failed} of ${scenario.maxAttempts} attempts have failed by themselves`;
  // That it was not sent is looked at where it would be handled.
  if (end === STATUS.cancelled) return undefined;
  const resolved = end === STATUS.resolved && (state.left.resolve ?? 0) < (faults.resolve ?? 0);
  if (open.length && end !== STATUS.dead && !gone && !resolved)
    return `law 2: it disappears; ${open.join(", ")} never handled it, and it is ${end}`;
  return undefined;
}

function add(counts: Int32Array, at: number, count = 1): void {
  counts[at] = (counts[at] as number) + count;
}

/** The first state from which no calm way leads to an end. */
function firstStuck(calm: number[], good: number[], size: number): number | undefined {
  const first = new Int32Array(size + 1);
  for (let i = 1; i < calm.length; i += 2) add(first, (calm[i] as number) + 1);
  for (let i = 0; i < size; i++) add(first, i + 1, first[i]);
  const before = new Int32Array(calm.length / 2);
  const filled = first.slice();
  for (let i = 0; i < calm.length; i += 2) {
    const to = calm[i + 1] as number;
    before[filled[to] as number] = calm[i] as number;
    add(filled, to);
  }
  const ends = new Uint8Array(size);
  const left = [...good];
  for (const state of good) ends[state] = 1;
  for (let state = left.pop(); state !== undefined; state = left.pop()) {
    for (let i = first[state] as number; i < (first[state + 1] as number); i++) {
      const earlier = before[i] as number;
      if (ends[earlier]) continue;
      ends[earlier] = 1;
      left.push(earlier);
    }
  }
  const stuck = ends.indexOf(0);
  return stuck < 0 ? undefined : stuck;
}

function traceOf(at: number, from: number[], labels: string[]): string[] {
  const trace: string[] = [];
  for (let state = at; state >= 0; state = from[state] as number) trace.unshift(labels[state] as string);
  return trace;
}
