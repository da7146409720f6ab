import { BULK_STATE, type Bulk, type BulkState } from "../../../src/message/bulk";
import { type Status, TRANSITIONS } from "../../../src/message/lifecycle";
import type { Note } from "../../../src/message/message";
import type { AuditRecord } from "../../../src/message/records";
import { encodeMessage } from "../../../src/stores/documents/codec";
import type { Doc } from "../../../src/stores/documents/collection";
import { deadOf, messageOf } from "../../support/messages";
import { NOW } from "../stage";
import { Pool } from "../values";
import { Broken, type Mutation } from "../world";
import { type FilterAct, GROUP } from "./parts";

export interface Letter {
  id: string;
  /** So many seconds before the bulk act begins. @default 2 */
  died?: number;
  /** Not dead, but may die. */
  alive?: true;
  /** In another group than the one that is asked for. */
  elsewhere?: true;
  /** Dead in its group, and on its way to another one; with a sweep that has it in its hands. */
  waiting?: "for another" | "in a sweep";
  /** The store takes no change of it. */
  refuses?: true;
}

export interface BulkScenario {
  act: FilterAct;
  /** Of a page. @default 1 */
  size?: number;
  /** @default 1 */
  workers?: number;
  letters: Letter[];
  /** What dies anew bears an instant before the start. */
  clockBehind?: true;
  /** Nothing goes wrong, and nobody does anything, before it is begun. */
  begun?: true;
}

/** What may go wrong in one run, or be done by humans, and how often. */
export interface BulkFaults {
  crash?: number;
  /** A claim ends while its holder is at it. */
  slow?: number;
  /** The store does not answer; the write was made, or not. */
  lose?: number;
  /** A message that was retried dies anew; one is handled. */
  die?: number;
  handle?: number;
  pause?: number;
  stop?: number;
  /** A human's act on one message. */
  retry?: number;
  resolve?: number;
  discard?: number;
  /** Too many are said to be dead again. */
  tooMany?: number;
}

export interface BulkModel {
  scenario: BulkScenario;
  faults: BulkFaults;
  mutation?: Mutation;
}

export interface BulkWorldState {
  /** By `collection/_id`: the document, by number. */
  docs: Record<string, number>;
  /** Acts of the theatre, by who does them. */
  slots: Record<string, number>;
  /** Messages that the bulk act has acted on, that died after its start, that a human has acted on. */
  acted: string[];
  died: string[];
  byHand: string[];
  /** While a human holds it up: the page that was under way then. */
  allowed?: string[];
  left: BulkFaults;
}

const HOUR = 3_600_000;
export const EARLIER = new Date(NOW.getTime() - HOUR);
export const LATER = new Date(NOW.getTime() + HOUR);
/** Before the start, and after all that had died by then. */
export const JUST_BEFORE = new Date(NOW.getTime() - 1);

const STATES: Record<BulkState, BulkState[]> = {
  running: ["paused", "stopping", "stopped", "done", "failed"],
  // A holder that had found nothing more, or had stopped it by itself, when a human held it up.
  paused: ["running", "stopping", "stopped", "done", "failed"],
  stopping: ["stopped", "done", "failed"],
  stopped: [],
  done: [],
  failed: []
};

function isEnd(state: BulkState): boolean {
  return !STATES[state].length;
}

export const messageKey = (id: string) => `messages/${id}`;

/** Documents, and the laws of a bulk act: each is looked at where something happens that could break it. */
export class Laws {
  readonly docs = new Pool<Doc>();
  readonly matched: string[];

  constructor(readonly model: BulkModel) {
    const { act, letters } = model.scenario;
    const matches = ({ alive, elsewhere, waiting }: Letter) => !alive && !elsewhere && !(act === "discard" && waiting);
    this.matched = letters.filter(matches).map(({ id }) => id);
  }

  initial(): BulkWorldState {
    const { letters } = this.model.scenario;
    const docs = letters.map(letter => [messageKey(letter.id), this.docs.id(normal(rowOf(letter)))]);
    return { docs: Object.fromEntries(docs), slots: {}, acted: [], died: [], byHand: [], left: this.model.faults };
  }

  get(state: BulkWorldState, key: string): Doc | undefined {
    const { [key]: id } = state.docs;
    return id === undefined ? undefined : this.docs.get(id);
  }

  bulkOf(state: BulkWorldState): Bulk | undefined {
    for (const [key, id] of Object.entries(state.docs)) {
      const doc = this.docs.get(id);
      if (key.startsWith("bulks/") && doc.state !== undefined) return doc as unknown as Bulk;
    }
    return undefined;
  }

  /** Writes a document, or takes it away. `to` is the state to come. */
  write(to: BulkWorldState, name: string, key: string, after: Doc | undefined): void {
    const before = this.get(to, key);
    const [collection] = key.split("/");
    if (collection === "messages" && before) this.#messageChanges(to, name, before, after);
    if (collection === "bulks" && before?.state !== undefined && after) this.#bulkChanges(to, before, after);
    to.docs = { ...to.docs };
    if (after) to.docs[key] = this.docs.id(normal(after));
    else delete to.docs[key];
  }

  #messageChanges(to: BulkWorldState, name: string, before: Doc, after: Doc | undefined): void {
    const { _id: id } = before;
    const [was, is] = [before.status as Status, (after?.status as Status | undefined) ?? "discarded"];
    if (is === "discarded" ? was !== "dead" : was !== is && !TRANSITIONS[was].includes(is as Status))
      throw new Broken(`law 6: ${was} → ${is} is no legal transition`);
    if (is === "discarded" && !Object.values(to.docs).some(number => this.docs.get(number).id === id))
      throw new Broken(`law 2: ${id} is discarded, and nothing tells by whom`);
    if (name === "hand") to.byHand = [...to.byHand, id].sort();
    if (!name.startsWith("worker")) return;
    const bulk = this.bulkOf(to) as Bulk;
    const { clockBehind } = this.model.scenario;
    if (to.acted.includes(id)) throw new Broken(`once: ${id} is acted on a second time by the same bulk act`);
    if (to.died.includes(id) && !clockBehind) throw new Broken(`${id} died after the start, and is acted on`);
    if (!this.matched.includes(id) && !clockBehind) throw new Broken(`${id} did not match, and is acted on`);
    if (isEnd(bulk.state)) throw new Broken(`${id} is acted on after the end: it is ${bulk.state}`);
    if (to.allowed && !to.allowed.includes(id)) throw new Broken(`${id} is acted on though a human held it up before`);
    if (!bulk.page?.ids.includes(id)) throw new Broken(`${id} is acted on, and is in no page`);
    const [note] = notesOf(after).slice(notesOf(before).length);
    if (note?.groups && String(note.groups) !== String(before.failed))
      throw new Broken(`${id} is acted on for ${String(note.groups)}, and has failed in ${String(before.failed)}`);
    to.acted = [...to.acted, id].sort();
  }

  #bulkChanges(to: BulkWorldState, old: Doc, changed: Doc): void {
    const [before, after] = [old, changed] as unknown as [Bulk, Bulk];
    const { state: was } = before;
    const { state: is, matched, done, lost, refused } = after;
    if (was !== is && !STATES[was].includes(is))
      throw new Broken(`law 6: ${was} → ${is} is no transition of a bulk act`);
    const sum = done + lost + refused;
    if (sum > matched && !this.model.scenario.clockBehind)
      throw new Broken(`${done} done, ${lost} overtaken, ${refused} refused: more than the ${matched} that matched`);
    if (done < before.done) throw new Broken(`${before.done} were done, and then ${done}`);
    if (was === is) return;
    if (is === BULK_STATE.running) to.allowed = undefined;
    else if (!isEnd(is)) to.allowed ??= after.page?.ids ?? [];
  }

  /** Nothing moves any more. */
  wrongEnd(state: BulkWorldState): string | undefined {
    const bulk = this.bulkOf(state);
    const audits = Object.keys(state.docs).filter(key => key.startsWith("audit/"));
    if (!bulk) return state.acted.length || audits.length ? "it was never begun, and has acted" : undefined;
    const { state: is, matched, done, lost, refused } = bulk;
    if (!isEnd(is)) return `law 2: left behind as ${is}`;
    return (
      this.#wrongCounts(state, bulk) ??
      this.#wrongAudit(state, bulk, audits) ??
      this.#untrueRecord(state) ??
      (is === "done" && done + lost + refused !== matched && !this.model.scenario.clockBehind
        ? `${done} done, ${lost} overtaken, ${refused} refused: not the ${matched} that matched`
        : undefined)
    );
  }

  #wrongCounts(state: BulkWorldState, { state: is, done, refused }: Bulk): string | undefined {
    const { faults, scenario } = this.model;
    const { act, letters, clockBehind } = scenario;
    const acted = state.acted.length;
    // A discard by hand takes the note with it; and two who discard at the same moment share the one record.
    const told = faults.discard === undefined ? done === acted : act === "discard" || done <= acted;
    if (!told) return `${done} are told as done, and ${acted} are`;
    if (is !== "done" || clockBehind) return undefined;
    const refusing = letters.filter(({ id, refuses }) => refuses && act !== "discard" && this.matched.includes(id));
    if (refused !== refusing.length) return `${refused} are told as refused, and ${refusing.length} are`;
    const lost = this.matched.find(
      id => ![state.acted, state.byHand, refusing.map(letter => letter.id)].some(list => list.includes(id))
    );
    return lost && `lost: ${lost} matched, and nobody has acted on it`;
  }

  #wrongAudit(state: BulkWorldState, bulk: Bulk, audits: string[]): string | undefined {
    const [record] = audits.map(key => this.get(state, key)) as unknown as AuditRecord[];
    if (audits.length !== 1 || record?._id !== bulk._id) return `audit: ${audits.length} records`;
    if (record.state !== bulk.state) return `audit: it is ${bulk.state}, and its record says ${record.state}`;
    for (const count of ["matched", "done", "lost"] as const)
      if (record.counts[count] !== bulk[count])
        return `audit: ${count} is ${bulk[count]}, and its record says ${record.counts[count]}`;
    return undefined;
  }

  /** What is said to be discarded is gone. */
  #untrueRecord(state: BulkWorldState): string | undefined {
    for (const [key, id] of Object.entries(state.docs)) {
      const { id: of, by } = this.docs.get(id) as Doc & { id: string; by: string };
      // The record of a human's own act may stand there, if it died between the two: the next one takes it over.
      if (key.startsWith("discarded/") && by === "ann" && messageKey(of) in state.docs)
        return `${of} is there, and told as discarded`;
    }
    return undefined;
  }
}

function notesOf(doc: Doc | undefined): Note[] {
  return (doc?.notes ?? []) as Note[];
}

function rowOf({ id, died = 2, alive, elsewhere, waiting, refuses }: Letter): Doc {
  const [failed] = elsewhere ? ["mail"] : [GROUP];
  const fields = {
    ...{ _id: id, createdAt: EARLIER, at: alive ? EARLIER : new Date(NOW.getTime() - died * 1000) },
    ...(alive ? {} : { failed: [failed as string], spent: { [failed as string]: 3 } }),
    ...(waiting && { waiting: ["mail"], dueAt: LATER }),
    ...(waiting === "in a sweep" && { claim: "sweeper" })
  };
  const { body: _body, ...doc } = encodeMessage((alive ? messageOf : deadOf)(fields));
  // `deadOf` makes one that waits for nobody.
  return { ...doc, ...(waiting && { dueAt: LATER }), ...(refuses && { refuses }) } as Doc;
}

const OF_PEOPLE = new Set([
  "failures",
  "lastErrors",
  "reason",
  "bytes",
  "bucket",
  "headers",
  "meta",
  "pace",
  "error",
  "why"
]);

/** Without what serves people only, its fields in one order. */
function normal(doc: Doc): Doc {
  const sorted = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(sorted);
    if (typeof value !== "object" || value === null || value instanceof Date) return value;
    return Object.fromEntries(
      Object.entries(value)
        .filter(([field]) => !OF_PEOPLE.has(field))
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([field, of]) => [field, sorted(of)])
    );
  };
  return sorted(doc) as Doc;
}
