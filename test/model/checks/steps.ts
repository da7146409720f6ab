import { encodeMessage } from "../../../src/stores/documents/codec";
import type { Change, Doc, Filter } from "../../../src/stores/documents/collection";
import { parseChecks } from "../../../src/wire/checks";
import { match, modify } from "../database";
import type { World } from "../explorer";
import { type Answer, type Effect, NOW, Theatre } from "../stage";
import { Pool, textOf } from "../values";
import { Broken, type Mutation } from "../world";
import { type ChecksScenario, type ChecksWire, checksScripts, emitted, GROUP, QUEUES } from "./parts";

export interface ChecksFaults {
  /** A process dies. */
  crash?: number;
  /** A publish of checks is lost on its way, or only its confirm is. */
  lose?: number;
  /** RabbitMQ refuses a message with many checks for what it is. */
  refuse?: number;
  /** A message with checks is delivered twice. */
  duplicate?: number;
  /** The store does not answer. */
  away?: number;
}

export interface ChecksModel {
  scenario: ChecksScenario;
  faults: ChecksFaults;
  /** Callback services. */
  checkers?: number;
  mutation?: Mutation & { /** Who gets an answer meant for another publish of checks. */ swaps?: true };
}

interface State {
  /** By `collection/_id`. */
  docs: Record<string, number>;
  slots: Record<string, { act: number; held?: number }>;
  /** Messages with checks that wait. */
  checks: number[];
  /** Ids whose message waits in the group's queue. */
  events: string[];
  /** Ids whose checks were confirmed; of emits that have resolved. */
  confirmed: string[];
  promised: string[];
  left: ChecksFaults;
}

interface Way {
  state: State;
  answer: Answer;
  what: string;
  fault?: keyof ChecksFaults;
}

interface Step {
  label: string;
  state: State;
  fault: boolean;
}

const LATE = " late";
const CONFIRMED = { value: { outcome: "confirmed" } };
const UNKNOWN: Answer = { value: { outcome: "unknown", reason: "no answer" } };
const REFUSED: Answer = { value: { outcome: "refused", reason: "no" } };
const AWAY: Answer = {
  error: { name: "ReliableRetryableError", message: "away", type: "RELIABLE_UNAVAILABLE", retryable: true }
};

const with_ = (list: string[], ...items: string[]) => [...new Set([...list, ...items])].sort();

function successor(state: State): State {
  return { ...state, docs: { ...state.docs }, slots: { ...state.slots } };
}

function spend(state: State, fault: keyof ChecksFaults): boolean {
  const left = state.left[fault] ?? 0;
  if (left) state.left = { ...state.left, [fault]: left - 1 };
  return left > 0;
}

/** The ids in a message with checks, and those of them that can be read. */
function idsOf(wire: ChecksWire): { all: string[]; good: string[] } {
  if (wire.type !== "reliable.checks") return { all: [wire.messageId], good: [wire.messageId] };
  const items = parseChecks(wire);
  const of = (item: (typeof items)[number]) => item.id || (JSON.parse(String(item.body)) as { id: string }).id;
  return { all: items.map(of), good: items.filter(({ fault }) => fault === undefined).map(of) };
}

/**
 * Several messages whose checks go together: one emitter, callback services that compete, a group that handles and is
 * recorded at once. The laws:
 *
 *   D1  an emit has resolved ⇒ its check was confirmed; and at the end its message is handled, kept due, or parked
 *   D2  a message with checks is acked ⇒ the row of each says what comes next, or it is parked
 *   D3  what is consumed stays so, and is not worked at again, however often its check comes
 *   D4  a check that cannot be read parks itself, and no other
 */
export class ChecksWorld implements World<State> {
  readonly begins = "the emits";
  readonly theatre: Theatre;
  readonly #docs = new Pool<Doc>();
  readonly #wires = new Pool<ChecksWire>();

  constructor(readonly model: ChecksModel) {
    this.theatre = new Theatre(checksScripts(model.scenario));
  }

  async initial(): Promise<State> {
    const rest = { checks: [], events: [], confirmed: [], promised: [] };
    const state: State = { docs: {}, slots: {}, ...rest, left: this.model.faults };
    await this.#enter(state, "emit", "emit", {});
    return state;
  }

  keyOf({ docs, slots, ...rest }: State): string {
    const sorted = (map: object) => Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
    return JSON.stringify([sorted(docs), sorted(slots), rest]);
  }

  endOf(state: State): string {
    const rows = Object.entries(state.docs).map(([key, id]) => `${key}: ${String(this.#docs.get(id).status)}`);
    return rows.sort().join(", ") || "nothing";
  }

  /** D1 and D4, when nothing moves any more. */
  wrongEnd(state: State): string | undefined {
    for (const id of state.promised)
      if (!this.#isSeenTo(state, id)) return `D1: ${id} was promised, and nobody sees to it`;
    const parked = Object.keys(state.docs).filter(key => key.startsWith("parked/"));
    const { bad } = this.model.scenario;
    const own = parked.filter(key => String(this.#docs.get(state.docs[key] as number).body).includes(`"${bad}"`));
    if (parked.length !== own.length || parked.length > 1) return `D4: ${parked.length} are parked, and one is bad`;
    return undefined;
  }

  /** Its row says what comes next (a human's turn, if it is dead), or it is parked. */
  #isSeenTo(state: State, id: string): boolean {
    const row = this.#get(state, `messages/${id}`);
    if (row && (row.status === "consumed" || row.status === "dead" || row.dueAt !== undefined)) return true;
    return Object.entries(state.docs).some(
      ([key, doc]) => key.startsWith("parked/") && String(this.#docs.get(doc).body).includes(`"${id}"`)
    );
  }

  #get(state: State, key: string): Doc | undefined {
    const { [key]: id } = state.docs;
    return id === undefined ? undefined : this.#docs.get(id);
  }

  #write(to: State, key: string, doc: Doc): void {
    const before = this.#get(to, key);
    // Its payload may come a moment after the last receipt: it was waited for when the check was looked at.
    if (
      before?.status === "consumed" &&
      (doc.status !== "consumed" || doc.claim !== undefined || doc.dueAt !== undefined)
    )
      throw new Broken(`D3: ${key} is consumed, and is at work again`);
    // What serves people, and when it is due next, make no difference here.
    const { notes: _notes, failures: _failures, ...rest } = doc;
    const { dueAt } = rest;
    const body = Buffer.isBuffer(rest.body) ? rest.body.toString() : rest.body;
    to.docs[key] = this.#docs.id({ ...rest, body, ...(dueAt !== undefined && { dueAt: NOW }) } as Doc);
  }

  async next(state: State): Promise<Step[]> {
    const steps: Step[] = [];
    for (const [name, { act }] of Object.entries(state.slots)) {
      for (const { index, effect } of this.theatre.acts.get(act).wants)
        await this.#perform(state, name, index, effect, steps);
      this.#crash(state, name, steps);
    }
    for (const wire of new Set(state.checks)) await this.#deliver(state, wire, steps);
    for (const id of state.events) {
      const to = successor(state);
      to.events = state.events.filter(other => other !== id);
      const row = this.#get(to, `messages/${id}`);
      if (row?.status !== "consumed") {
        const { dueAt: _dueAt, claim: _claim, ...rest } = row ?? { ...encodeMessage(emitted(id)), partial: true };
        this.#write(to, `messages/${id}`, { ...rest, status: "consumed", waiting: [] } as Doc);
      }
      steps.push({ label: `${GROUP} handles ${id}, and that is recorded`, state: to, fault: false });
    }
    return steps;
  }

  async #deliver(state: State, wire: number, steps: Step[]): Promise<void> {
    for (let n = 1; n <= (this.model.checkers ?? 1); n++) {
      const name = `checker-${n}`;
      if (name in state.slots) continue;
      const to = successor(state);
      to.checks = [...state.checks];
      to.checks.splice(to.checks.indexOf(wire), 1);
      await this.#enter(to, name, "check", { nodeID: name, wire: this.#wires.get(wire) }, wire);
      steps.push({ label: `${name} takes ${idsOf(this.#wires.get(wire)).all.join(" ")}`, state: to, fault: false });
    }
    const twice = { ...successor(state), checks: [...state.checks, wire].sort() };
    if (spend(twice, "duplicate")) steps.push({ label: "checks are there twice", state: twice, fault: true });
  }

  async #perform(state: State, name: string, index: number, wanted: Effect, steps: Step[]): Promise<void> {
    const effect = (this.model.mutation?.want?.(wanted, name) as Effect | undefined) ?? wanted;
    for (const { state: to, answer, what, fault } of this.#ways(state, name, effect)) {
      if (fault && !spend(to, fault)) continue;
      await this.#advance(to, name, this.#whose(to, name, index, effect), answer);
      steps.push({ label: `${name}: ${what}`, state: to, fault: fault !== undefined });
    }
  }

  /** Whose answer it is: of a broken producer that of another publish of checks which is under way. */
  #whose(state: State, name: string, index: number, effect: Effect): number {
    if (!this.model.mutation?.swaps || !isChecks(effect)) return index;
    const { wants } = this.theatre.acts.get(state.slots[name]?.act as number);
    return wants.find(want => want.index !== index && isChecks(want.effect))?.index ?? index;
  }

  #ways(state: State, name: string, effect: Effect): Way[] {
    const { op } = effect;
    const to = successor(state);
    if (op === "publish") return this.#publish(state, effect);
    if (op === "ack") {
      this.#acked(state, this.#wires.get(state.slots[name]?.held as number));
      to.slots[name] = { act: state.slots[name]?.act as number };
      return [{ state: to, answer: {}, what: "ack" }];
    }
    if (op === "pause") return [{ state: to, answer: {}, what: "a pause is over" }];
    if (op === "call") {
      const { id, steps } = effect.params as { id: string; steps: object[] };
      to.events = with_(state.events, id);
      const value = { answer: "sent", results: steps.map(() => ({ outcome: "confirmed" })), check: CONFIRMED.value };
      return [{ state: to, answer: { value }, what: `has ${id} sent again` }];
    }
    return this.#database(state, effect);
  }

  #publish(state: State, effect: Effect): Way[] {
    const { to: address, messageId, type, headers, body } = effect as unknown as ChecksWire & { to: object };
    if ("event" in address) {
      const to = successor(state);
      to.events = with_(state.events, messageId);
      // Of a message nothing is lost here: its check sees to that, and `test/model/callback.spec.ts` shows it.
      return [
        { state: to, answer: CONFIRMED, what: `publish ${messageId}` },
        { state: successor(state), answer: UNKNOWN, what: `publish ${messageId}, lost`, fault: "lose" }
      ];
    }
    const wire = this.#spoilt({ messageId, type, headers, body });
    const { all } = idsOf(wire);
    const what = `publish checks of ${all.join(" ")}`;
    const arrived = successor(state);
    arrived.checks = [...state.checks, this.#wires.id(wire)].sort();
    const told = { ...arrived, confirmed: with_(state.confirmed, ...all) };
    return [
      { state: told, answer: CONFIRMED, what },
      { state: successor(arrived), answer: UNKNOWN, what: `${what}, the confirm is lost`, fault: "lose" },
      { state: successor(state), answer: UNKNOWN, what: `${what}, lost`, fault: "lose" },
      ...(all.length > 1
        ? [{ state: successor(state), answer: REFUSED, what: `${what}, refused`, fault: "refuse" as const }]
        : [])
    ];
  }

  /** One of its checks has no time any more. */
  #spoilt(wire: ChecksWire): ChecksWire {
    const { bad } = this.model.scenario;
    if (!bad || wire.type !== "reliable.checks") return wire;
    const end = wire.body.indexOf("\n");
    const line = JSON.parse(wire.body.subarray(0, end).toString()) as { items: { id: string; at: unknown }[] };
    for (const item of line.items) if (item.id === bad) item.at = "never";
    return { ...wire, body: Buffer.concat([Buffer.from(JSON.stringify(line)), wire.body.subarray(end)]) };
  }

  /** D2. */
  #acked(state: State, wire: ChecksWire): void {
    for (const id of idsOf(wire).all)
      if (!this.#isSeenTo(state, id)) throw new Broken(`D2: the check of ${id} is acked, and nobody sees to it`);
  }

  #database(state: State, effect: Effect): Way[] {
    const { op, collection } = effect;
    const to = successor(state);
    const what = `${op.replace("db.", "")} ${collection as string}`;
    const ways = (value: unknown, how = what): Way[] => [
      { state: to, answer: { value }, what: how },
      { state: successor(state), answer: AWAY, what: `${what}: no answer`, fault: "away" }
    ];
    if (op === "db.insert") {
      const doc = effect.doc as Doc;
      const key = `${collection as string}/${doc._id}`;
      if (effect.skipped) return ways(true, `${what}: skipped`);
      if (key in state.docs) return ways(false, `${what} ${doc._id}: it is there`);
      this.#write(to, key, doc);
      return ways(true, `${what} ${doc._id}`);
    }
    const found = Object.keys(state.docs)
      .filter(key => key.startsWith(`${collection as string}/`))
      .map(key => [key, this.#get(state, key) as Doc] as const)
      .filter(([, doc]) => match(doc, effect.filter as Filter));
    const ids = found.map(([, { _id }]) => _id).join(" ") || "none";
    if (op === "db.find")
      return ways(
        found.map(([, doc]) => withBytes(doc)),
        `${what}: ${ids}`
      );
    for (const [key, doc] of found) this.#write(to, key, modify(doc, withText(effect.change as Change)));
    return ways(found.length, `${what}: ${ids}`);
  }

  async #enter(state: State, name: string, script: string, part: unknown, held?: number): Promise<void> {
    const key = textOf(part);
    const act = this.theatre.begun(script, key) ?? (await this.theatre.begin(script, key, part));
    state.slots[name] = { act, ...(held !== undefined && { held }) };
    await this.#settled(state, name);
  }

  async #advance(state: State, name: string, index: number, answer: Answer): Promise<void> {
    const { [name]: slot } = state.slots;
    if (!slot) return;
    const { theatre } = this;
    const number = theatre.answers.id(answer);
    const act = theatre.advanced(slot.act, index, number) ?? (await theatre.advance(slot.act, index, number));
    state.slots[name] = { ...slot, act };
    await this.#settled(state, name);
  }

  /** Notes count at once; who has come to the end leaves. */
  async #settled(state: State, name: string): Promise<void> {
    const { wants, ended } = this.theatre.acts.get(state.slots[name]?.act as number);
    const note = wants.find(({ effect }) => effect.op === "note");
    if (note) {
      const id = note.effect.id as string;
      state.promised = with_(state.promised, id);
      if (!state.confirmed.includes(id)) throw new Broken(`law 1: ${id} is promised, and its check is not confirmed`);
      return this.#advance(state, name, note.index, {});
    }
    for (const { index, effect } of name.endsWith(LATE) ? [] : wants) {
      const value = this.model.mutation?.eager?.(effect, name);
      if (value === undefined) continue;
      // What it does happens in a slot of its own, which is lost with its process.
      await this.#enter(state, name + LATE, "late", effect);
      return this.#advance(state, name, index, { value });
    }
    if (ended && !wants.length) delete state.slots[name];
  }

  #crash(state: State, name: string, steps: Step[]): void {
    const to = successor(state);
    if (name.endsWith(LATE) || !spend(to, "crash")) return;
    const { held } = state.slots[name] as { held?: number };
    if (held !== undefined) to.checks = [...to.checks, held].sort();
    delete to.slots[name];
    delete to.slots[name + LATE];
    steps.push({ label: `${name} dies`, state: to, fault: true });
  }
}

/** The interpreter of changes copies no bytes, so that they are text while they are stored. */
function withBytes(doc: Doc): Doc {
  return { ...doc, body: Buffer.from(String(doc.body ?? "")) };
}

function withText(change: Change): Change {
  const { body } = change.$set ?? {};
  return Buffer.isBuffer(body) ? { ...change, $set: { ...change.$set, body: body.toString() } } : change;
}

function isChecks({ op, to }: Effect): boolean {
  return op === "publish" && (to as { queue?: string }).queue === QUEUES.checks;
}
