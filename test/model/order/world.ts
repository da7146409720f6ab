import { isFinal, STATUS, type Status, TRANSITIONS } from "../../../src/message/lifecycle";
import { ANY_GROUP } from "../../../src/message/message";
import { BEHIND_AT, isInLine } from "../../../src/message/order";
import type { Change, Doc } from "../../../src/stores/documents/collection";
import type { Lane } from "../../../src/stores/documents/lane-rows";
import { countedIn, modify, normal } from "../database";
import { NOW } from "../stage";
import { Pool } from "../values";
import { Broken, type Mutation } from "../world";
import type { ReceiptWire } from "./parts";

export interface Letter {
  id: string;
  key: string;
  /** @default "hold" */
  onDead?: "skip";
}

/** A process that emits, in the order of its calls. */
export interface Emitter {
  name: string;
  letters: Letter[];
  /** Begins when these are promised. @default at any time */
  after?: string[];
  /** In a transaction of its own. */
  session?: true;
}

export interface OrderScenario {
  emitters: Emitter[];
  groups: string[];
  /** Becomes known at any time, once. */
  unknown?: true;
  /** @default 2 */
  maxAttempts?: number;
  /** @default 1 */
  trackers?: number;
  sweepers?: number;
  /** Processes at work at the same time, but for handlers. @default 2 */
  atOnce?: number;
}

/** What may go wrong in one run, or be done by humans, and how often. */
export interface OrderFaults {
  /** A process dies: one that emits, tracks or sweeps; or a handler's. */
  crash?: number;
  /** A delay is over while processes are still at it, or receipts are on their way. */
  slow?: number;
  /** A publish is lost on its way, or only its confirm is. */
  lose?: number;
  /** A message is delivered twice, a receipt comes twice. */
  duplicate?: number;
  /** A handler fails. */
  fail?: number;
  /** A message is gone from a group's queue. */
  purge?: number;
  /** The store does not answer one that emits; the write was made, or not. */
  away?: number;
  /** A human's act on one that is dead. */
  resolve?: number;
  retry?: number;
  /** One that is at work is interrupted by what another does. @default as often as can be */
  switch?: number;
}

export interface OrderModel {
  scenario: OrderScenario;
  faults: OrderFaults;
  /** `isBlind`: a sweep takes all that is due for what has its turn. */
  mutation?: Mutation & { isBlind?: boolean };
}

/** A message on its way to a group. */
export interface EventWire {
  id: string;
  group: string;
  attempt: number;
  key: string;
  turn: number;
}

export interface Slot {
  act: number;
  /** A receipt that is not acked. */
  held?: number;
}

export interface OrderState {
  /** By `collection/_id`: the document, by number. */
  docs: Record<string, number>;
  slots: Record<string, Slot>;
  /** Event wires by group, receipts under "receipts"; their order does not count. */
  queues: Record<string, number[]>;
  /** Event wires whose handler runs. */
  running: number[];
  /** `group id`. */
  handled: string[];
  known: boolean;
  begun: string[];
  promised: string[];
  /** What was promised before an emit was called, or was called before by the same process. */
  before: Record<string, string[]>;
  /** Whose turn it was, by key and group: the first one is of number 1. */
  given: Record<string, string[]>;
  /** Brought back by a human: those behind them may have gone on. */
  retried: string[];
  /** Who is at work, where switches are counted. */
  active?: string | undefined;
  left: OrderFaults;
}

const HOUR = 3_600_000;
export const EARLIER = new Date(NOW.getTime() - HOUR);
export const LATER = new Date(NOW.getTime() + HOUR);

export const RECEIPTS = "receipts";
export const rowKey = (id: string) => `messages/${id}`;
export const laneKey = (key: string) => `lanes/${key}`;
const isBehind = ({ dueAt }: Doc) => (dueAt as Date | undefined)?.getTime() === BEHIND_AT.getTime();

type Row = Parameters<typeof isInLine>[0] & Doc;

/** Documents, and the laws of order: each is looked at where something happens that could break it. */
export class Laws {
  readonly docs = new Pool<Doc>();
  readonly wires = new Pool<EventWire>();
  readonly receipts = new Pool<ReceiptWire>();
  readonly letters: Map<string, Letter>;

  constructor(readonly model: OrderModel) {
    this.letters = new Map(
      model.scenario.emitters.flatMap(({ letters }) => letters.map((letter): [string, Letter] => [letter.id, letter]))
    );
  }

  get(state: OrderState, key: string): Doc | undefined {
    const { [key]: id } = state.docs;
    return id === undefined ? undefined : this.docs.get(id);
  }

  /** Writes a document. `to` is the state to come. */
  write(to: OrderState, key: string, after: Doc): void {
    const before = this.get(to, key);
    const doc = key.startsWith("lanes/") ? normalLane(after) : normalRow(after);
    if (key.startsWith("lanes/")) this.#laneChanges(to, before as Lane | undefined, doc as Lane);
    else this.#rowChanges(to, before, doc);
    to.docs = { ...to.docs, [key]: this.docs.id(doc) };
  }

  #rowChanges(to: OrderState, before: Doc | undefined, after: Doc): void {
    const [was, is] = [before?.status as Status | undefined, after.status as Status];
    if (was && was !== is && !TRANSITIONS[was].includes(is))
      throw new Broken(`law 6: ${was} → ${is} is no legal transition`);
    const failures = countedIn((after.failures ?? []) as string[]);
    if (new Set(failures).size < failures.length) throw new Broken(`law 5: counted twice: ${failures.join(", ")}`);
    const open = this.model.scenario.groups.filter(group => !to.handled.includes(`${group} ${after._id}`));
    if (is === STATUS.consumed && open.length)
      throw new Broken(`law 3: ${after._id} is consumed before ${open.join(", ")} handled it`);
  }

  #laneChanges(to: OrderState, before: Lane | undefined, after: Lane): void {
    const key = after._id;
    if ((after.v ?? 0) < (before?.v ?? 0)) throw new Broken(`M3: the version of ${key} falls`);
    if ((after.top ?? 0) < (before?.top ?? 0)) throw new Broken(`M3: the numbers of ${key} fall`);
    for (const [group, turn] of Object.entries(after.turns ?? {})) {
      const was = before?.turns?.[group];
      if (was?.number === turn.number && was.id === turn.id) continue;
      if (turn.number !== (was?.number ?? 0) + 1)
        throw new Broken(`M3: turn ${turn.number} of ${key} in ${group} comes after ${was?.number ?? 0}`);
      if (was?.id && !to.retried.includes(was.id) && this.isInLine(to, was.id, group))
        throw new Broken(`M1: the turn of ${was.id} in ${group} is taken from it`);
      if (turn.id) this.#given(to, key, group, turn.id);
      const place = `${key} ${group}`;
      to.given = { ...to.given, [place]: [...(to.given[place] ?? []), turn.id] };
    }
  }

  #given(to: OrderState, key: string, group: string, id: string): void {
    const first = this.overtaken(to, group, id);
    if (first) throw new Broken(`M2: ${id} has its turn of ${key} in ${group}, and ${first} was promised before`);
    if (this.get(to, rowKey(id)) === undefined) throw new Broken(`M1: the turn of ${key} is given to nobody`);
  }

  /** Which one of its key should have been handled before, or have left the line. */
  overtaken(state: OrderState, group: string, id: string): string | undefined {
    const mine = this.letters.get(id) as Letter;
    return state.before[id]?.find(
      other =>
        this.letters.get(other)?.key === mine.key &&
        !state.handled.includes(`${group} ${other}`) &&
        !state.retried.includes(other) &&
        (this.isInLine(state, other, group) || this.isInLine(state, other, ANY_GROUP))
    );
  }

  /** By the scenario: whatever the row says of its `onDead`. */
  isInLine(state: OrderState, id: string, group: string): boolean {
    const row = this.get(state, rowKey(id)) as Row | undefined;
    const { key = "", onDead } = this.letters.get(id) ?? {};
    return row !== undefined && isInLine({ ...row, order: onDead ? { key, onDead } : { key } }, group);
  }

  #isGivenUp(state: OrderState, id: string, group: string): boolean {
    const { failed = [] } = (this.get(state, rowKey(id)) ?? {}) as { failed?: string[] };
    return this.letters.get(id)?.onDead === "skip" && failed.includes(group);
  }

  turnIn(state: OrderState, key: string, group: string): string | undefined {
    return (this.get(state, laneKey(key)) as Lane | undefined)?.turns?.[group]?.id || undefined;
  }

  /** It goes to a group now. */
  published(state: OrderState, { id, group, key, turn }: EventWire): void {
    const given = state.given[`${key} ${group}`] ?? [];
    if (given[turn - 1] !== id)
      throw new Broken(`M1: ${id} is sent to ${group} as turn ${turn}, which is ${given[turn - 1] || "nobody"}'s`);
  }

  /** Its handler begins. */
  handles(state: OrderState, wire: EventWire): void {
    const { id, group, key } = wire;
    const beside = state.running.map(n => this.wires.get(n)).find(other => other.group === group && other.key === key);
    // What has been given up as silent, though its handler begins just then or a copy comes late, holds nobody up any
    // more under "skip": the turn's number says it to whoever has to know.
    const isLate = [id, beside?.id ?? id].some(each => this.#isGivenUp(state, each, group));
    if (beside && !isLate) throw new Broken(`two of ${key} at once in ${group}: ${id} beside ${beside.id}`);
    const first = this.overtaken(state, group, id);
    if (first) throw new Broken(`M2: ${group} handles ${id} before ${first}, which was promised before`);
  }

  /** What is wrong with the message, if nothing more happens of itself. */
  wrong(state: OrderState, id: string): string | undefined {
    const row = this.get(state, rowKey(id)) as Row | undefined;
    if (!row) return state.promised.includes(id) ? `law 1: ${id} is promised, and nowhere` : undefined;
    const { status, waiting } = row;
    // That each group has handled it was looked at when it became so; a resolved one is a human's.
    if (isFinal(status)) return undefined;
    if (status === STATUS.dead && !waiting.length) return row.dueAt ? `M4: ${id} is dead, and due` : undefined;
    if (!isBehind(row)) return `M4: ${id} is ${status}, and due`;
    const { key } = this.letters.get(id) as Letter;
    const free = waiting.find(group => {
      const holder = this.turnIn(state, key, group);
      const before = (holder && this.get(state, rowKey(holder))) as Row | undefined;
      // It stands behind one that only a human can bring on; which may itself stand behind such a one elsewhere.
      return holder === id || !before?.failed?.includes(group) || (before.dueAt !== undefined && !isBehind(before));
    });
    return free && `M4: ${id} stands behind nobody in ${free}`;
  }
}

/** Of rows, those that stand behind others are due at an instant that never comes. */
function normalRow(doc: Doc): Doc {
  return { ...normal(doc), ...(isBehind(doc) && { dueAt: BEHIND_AT }) };
}

function normalLane(doc: Doc): Doc {
  const { dueAt, expects, unnamed, late, turns = {}, ...rest } = doc as Lane;
  const come = (at: Date) => (at > NOW ? LATER : EARLIER);
  const sorted = Object.entries(turns).sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    ...rest,
    at: NOW,
    ...(dueAt && { dueAt: come(dueAt) }),
    ...(expects && { expects: come(expects) }),
    ...(unnamed && { unnamed: NOW }),
    // Said once more or twice more makes no difference.
    ...(late && { late: Object.fromEntries(Object.entries(late).map(([group, said]) => [group, Math.min(said, 2)])) }),
    turns: Object.fromEntries(
      sorted.map(([group, { id, at, number, v }]) => [group, { id, at, number, ...(v !== undefined && { v }) }])
    )
  };
}

export function stored(doc: Doc): Doc {
  return normalRow({ ...doc, body: "" });
}

export function read(key: string, doc: Doc): Doc {
  if (key.startsWith("lanes/")) return doc;
  return { ...doc, body: Buffer.from("{}"), failures: [] };
}

export function changed(doc: Doc, change: Change): Doc {
  // MongoDB pulls nothing out of a list that is not there; NeDB throws.
  const lists = Object.fromEntries(Object.keys(change.$pull ?? {}).map(list => [list, doc[list] ?? []]));
  return modify({ ...doc, ...lists }, change);
}
