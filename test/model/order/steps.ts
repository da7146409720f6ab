import { STATUS } from "../../../src/message/lifecycle";
import type { Change, Doc, Filter, Page } from "../../../src/stores/documents/collection";
import { parseEnvelope, type Wire } from "../../../src/wire/envelope";
import { later, match } from "../database";
import type { World } from "../explorer";
import { queueOf } from "../parts";
import { type Answer, type Effect, NOW, Theatre } from "../stage";
import { textOf } from "../values";
import { Broken } from "../world";
import { orderScripts, type ReceiptWire } from "./parts";
import {
  changed,
  EARLIER,
  type Emitter,
  type EventWire,
  LATER,
  Laws,
  type OrderFaults,
  type OrderModel,
  type OrderState,
  RECEIPTS,
  read,
  rowKey,
  type Slot,
  stored
} from "./world";

type Fault = keyof OrderFaults;

interface Step {
  label: string;
  state: OrderState;
  fault: boolean;
  /** The slot whose step it is. */
  by?: string;
}

/** One way an effect may go. */
interface Way {
  state: OrderState;
  answer: Answer;
  what: string;
  fault?: Fault;
}

const LATE = " late";
const AWAY: Answer = {
  error: { name: "ReliableRetryableError", message: "away", type: "RELIABLE_UNAVAILABLE", retryable: true }
};
const UNKNOWN: Answer = { value: { outcome: "unknown", reason: "no answer" } };
const HANDS = ["resolve", "retry"] as const;

function successor(state: OrderState): OrderState {
  return { ...state, slots: { ...state.slots }, queues: { ...state.queues } };
}

function spend(state: OrderState, fault: Fault): boolean {
  const left = state.left[fault] ?? 0;
  if (left) state.left = { ...state.left, [fault]: left - 1 };
  return left > 0;
}

function put(state: OrderState, queue: string, wire: number): void {
  state.queues[queue] = [...(state.queues[queue] ?? []), wire].sort((a, b) => a - b);
}

function without(list: number[], item: number): number[] {
  const at = list.indexOf(item);
  return [...list.slice(0, at), ...list.slice(at + 1)];
}

function take(state: OrderState, queue: string, wire: number): void {
  state.queues[queue] = without(state.queues[queue] ?? [], wire);
}

const added = (list: string[], item: string) => (list.includes(item) ? list : [...list, item].sort());

/**
 * The world around messages with an order key: a store with their rows and lanes, a broker, processes that emit, track
 * and sweep, and die; handlers; humans; and time. What a consumer does with one message is looked at by itself
 * (`test/model`): here it handles a message once, and answers copies by what its inbox says. A copy does not begin while
 * the same message is being handled, and a handler ends before it is taken for silent: `receiptTimeoutMs` is longer than
 * `handlerTimeoutMs`.
 */
export class OrderWorld implements World<OrderState> {
  readonly begins = "nobody has emitted yet";
  readonly theatre: Theatre;
  readonly laws: Laws;
  readonly #later = new Map<number, [string, Doc][]>();

  constructor(readonly model: OrderModel) {
    this.theatre = new Theatre(orderScripts(model.scenario, model.mutation?.isBlind));
    this.laws = new Laws(model);
  }

  async initial(): Promise<OrderState> {
    const { scenario, faults: left } = this.model;
    const nothing = { docs: {}, slots: {}, queues: {}, running: [], handled: [], begun: [], promised: [], retried: [] };
    return { ...nothing, known: !scenario.unknown, before: {}, given: {}, left };
  }

  keyOf({ docs, slots, queues, before, given, left, ...rest }: OrderState): string {
    const sorted = (map: object) =>
      Object.entries(map)
        .filter(([, value]) => !Array.isArray(value) || value.length)
        .sort(([a], [b]) => (a < b ? -1 : 1));
    return JSON.stringify([
      sorted(docs),
      sorted(slots),
      sorted(queues),
      sorted(before),
      sorted(given),
      rest,
      sorted(left)
    ]);
  }

  endOf(state: OrderState): string {
    const ends = [...this.laws.letters.keys()].map(id => {
      const row = this.laws.get(state, rowKey(id));
      return `${id} ${row ? (row.dueAt ? "behind" : String(row.status)) : "absent"}`;
    });
    return ends.join(", ");
  }

  wrongEnd(state: OrderState): string | undefined {
    for (const id of this.laws.letters.keys()) {
      const wrong = this.laws.wrong(state, id);
      if (wrong) return wrong;
    }
    return undefined;
  }

  async next(state: OrderState): Promise<Step[]> {
    const steps = await this.#all(state);
    if (this.model.faults.switch === undefined) return steps;
    const { active } = state;
    const isAtWork = active !== undefined && active in state.slots && !this.#pauses(state.slots[active] as Slot);
    return steps.flatMap(step => {
      const to = successor(step.state);
      if (step.by !== undefined || !isAtWork) to.active = step.by;
      if (to.active !== undefined && !(to.active in to.slots)) to.active = undefined;
      const isSwitch = isAtWork && step.by !== active && !step.fault;
      return isSwitch && !spend(to, "switch") ? [] : { ...step, state: to, fault: step.fault || isSwitch };
    });
  }

  async #all(state: OrderState): Promise<Step[]> {
    const steps: Step[] = [];
    for (const [name, slot] of Object.entries(state.slots)) {
      // Its place among the others' steps makes no difference.
      const own = this.theatre.acts.get(slot.act).wants.find(({ effect }) => this.#isOwn(effect));
      if (!own) continue;
      await this.#perform(state, name, slot, own.index, own.effect, steps);
      this.#crash(state, name, slot, steps);
      return steps;
    }
    for (const [name, slot] of Object.entries(state.slots)) {
      for (const { index, effect } of this.theatre.acts.get(slot.act).wants)
        await this.#perform(state, name, slot, index, effect, steps);
      this.#crash(state, name, slot, steps);
    }
    await this.#begin(state, steps);
    this.#handlers(state, steps);
    this.#broker(state, steps);
    await this.#humans(state, steps);
    if (this.model.scenario.unknown && !state.known)
      steps.push({ label: "the groups become known", state: { ...successor(state), known: true }, fault: false });
    if (!this.#isBusy(state) && this.wrongEnd(state) === undefined) return steps;
    this.#time(state, steps);
    return steps;
  }

  #pauses({ act }: Slot): boolean {
    return this.theatre.acts.get(act).wants.every(({ effect }) => effect.op === "pause");
  }

  #isOwn({ op }: Effect): boolean {
    return op === "ack" || op === "depth" || (op === "known" && !this.model.scenario.unknown);
  }

  async #perform(
    state: OrderState,
    name: string,
    slot: Slot,
    index: number,
    wanted: Effect,
    steps: Step[]
  ): Promise<void> {
    const effect = (this.model.mutation?.want?.(wanted, name) as Effect | undefined) ?? wanted;
    for (const { state: to, answer, what, fault } of this.#ways(state, name, slot, effect)) {
      if (fault && !spend(to, fault)) continue;
      await this.#advance(to, name, index, answer);
      steps.push({ label: `${name}: ${what}`, state: to, fault: fault !== undefined, by: name });
    }
  }

  #ways(state: OrderState, name: string, slot: Slot, effect: Effect): Way[] {
    const { op } = effect;
    const same = (value: unknown): Way[] => [{ state: successor(state), answer: { value }, what: op }];
    if (op.startsWith("db.")) return this.#database(state, name, effect);
    if (op === "publish") return this.#publish(state, effect);
    if (op === "known") return same(state.known);
    if (op === "pause") return same(undefined);
    if (op === "depth") {
      const group = this.model.scenario.groups.find(each => queueOf(each) === effect.queue) as string;
      return same({ ready: (state.queues[group] ?? []).length, consumers: 1 });
    }
    if (op === "ack") {
      const to = successor(state);
      to.slots[name] = { act: slot.act };
      return [{ state: to, answer: {}, what: "acks the receipt" }];
    }
    if (op === "commit") {
      const to = successor(state);
      for (const doc of effect.docs as Doc[]) this.laws.write(to, rowKey(doc._id), stored(doc));
      return [{ state: to, answer: {}, what: "commits" }];
    }
    throw new Error(`The world does not know '${op}'.`);
  }

  #database(state: OrderState, name: string, effect: Effect): Way[] {
    const { op, collection } = effect;
    const filter = (effect.filter ?? {}) as Filter;
    const found = Object.keys(state.docs)
      .filter(key => key.startsWith(`${collection as string}/`))
      .sort()
      .flatMap((key): [string, Doc][] => {
        const doc = this.laws.get(state, key) as Doc;
        return match(doc, filter) ? [[key, doc]] : [];
      });
    if (op === "db.find") return this.#find(state, found, effect);
    const to = successor(state);
    const done = (value: unknown, what: string): Way[] => [
      { state: to, answer: { value }, what },
      ...(name.startsWith("emitter")
        ? ([
            { state: successor(to), answer: AWAY, what: `${what}, the answer is lost`, fault: "away" },
            { state: successor(state), answer: AWAY, what: `${what}, lost`, fault: "away" }
          ] as const)
        : [])
    ];
    if (op === "db.insert") {
      const doc = effect.doc as Doc;
      const key = `${collection as string}/${doc._id}`;
      if (key in state.docs) return done(false, `does not insert ${key}: it is there`);
      this.laws.write(to, key, collection === "messages" ? stored(doc) : doc);
      return done(true, `inserts ${key}`);
    }
    if (op === "db.remove") return done(0, "removes nothing");
    const change = effect.change as Change;
    for (const [key, doc] of found) this.laws.write(to, key, changed(doc, change));
    const key = `${collection as string}/${filter._id as string}`;
    if (effect.upsert && !found.length) {
      this.laws.write(to, key, changed({ _id: filter._id as string }, change));
      return done(1, `inserts ${key}`);
    }
    return done(found.length, `${found.length ? "updates" : "does not update"} ${key} ${textOf(change).slice(0, 160)}`);
  }

  #find(state: OrderState, found: [string, Doc][], effect: Effect): Way[] {
    const { sort, limit, fields } = effect.page as Page;
    const docs = found.map(([key, doc]) => read(key, doc));
    const answer = (of: Doc[]): Way => ({
      state: successor(state),
      answer: {
        value: of
          .slice(0, limit)
          .map(doc =>
            Object.fromEntries(
              Object.entries(doc).filter(([field]) => !fields || field === "_id" || fields.includes(field))
            )
          )
      },
      what: `finds in ${effect.collection as string}: ${of.map(({ _id }) => _id).join(" ") || "none"}`
    });
    if (!sort) return [answer(docs)];
    const [field = ""] = Object.keys(sort);
    const at = (doc: Doc) => (doc[field] instanceof Date ? (doc[field] as Date).toISOString() : String(doc[field]));
    const sorted = (from: Doc[]) => [...from].sort((a, b) => (at(a) < at(b) ? -1 : at(a) > at(b) ? 1 : 0));
    // Of those of one place a server returns whichever it likes.
    const ways = (field === "place" ? [docs, [...docs].reverse()] : [docs]).map(from => answer(sorted(from)));
    return ways.length > 1 && textOf(ways[0]?.answer) === textOf(ways[1]?.answer) ? ways.slice(0, 1) : ways;
  }

  #publish(state: OrderState, effect: Effect): Way[] {
    const { to } = effect as unknown as { to: { event: string } | { queue: string } };
    if ("event" in to) throw new Broken("M1: one that is in order is published to all groups");
    const group = this.model.scenario.groups.find(each => queueOf(each) === to.queue) as string;
    const { id, attempt, order } = parseEnvelope({ ...(effect as unknown as Wire) });
    if (!order) throw new Broken(`M1: ${id} is sent to ${group} without its turn`);
    const wire: EventWire = { id, group, attempt, ...order };
    this.laws.published(state, wire);
    const arrived = successor(state);
    put(arrived, group, this.laws.wires.id(wire));
    const what = `publishes ${id} to ${group}, attempt ${attempt}, turn ${order.turn}`;
    return [
      { state: arrived, answer: { value: { outcome: "confirmed" } }, what },
      { state: successor(arrived), answer: UNKNOWN, what: `${what}, its confirm is lost`, fault: "lose" },
      { state: successor(state), answer: UNKNOWN, what: `${what}, lost`, fault: "lose" }
    ];
  }

  async #enter(state: OrderState, name: string, script: string, part: object, held?: number): Promise<void> {
    const key = textOf(part);
    const act = this.theatre.begun(script, key) ?? (await this.theatre.begin(script, key, part));
    state.slots[name] = { act, ...(held !== undefined && { held }) };
    await this.#settled(state, name);
  }

  async #advance(state: OrderState, name: string, index: number, answer: Answer): Promise<void> {
    const slot = state.slots[name];
    if (!slot) return;
    const { theatre } = this;
    const number = theatre.answers.id(answer);
    const act = theatre.advanced(slot.act, index, number) ?? (await theatre.advance(slot.act, index, number));
    state.slots[name] = { ...slot, act };
    await this.#settled(state, name);
  }

  /** Notes count at once; who has come to the end leaves. */
  async #settled(state: OrderState, name: string): Promise<void> {
    const { wants, ended } = this.theatre.acts.get((state.slots[name] as Slot).act);
    const note = wants.find(({ effect }) => effect.op === "note");
    if (note) {
      state.promised = added(state.promised, note.effect.id as string);
      return this.#advance(state, name, note.index, {});
    }
    const { eager } = this.model.mutation ?? {};
    for (const { index, effect } of wants) {
      const value = name.endsWith(LATE) ? undefined : eager?.(effect, name);
      if (value === undefined) continue;
      // What it does happens in a slot of its own, which is lost with its process.
      await this.#enter(state, name + LATE, "late", effect);
      return this.#advance(state, name, index, { value });
    }
    if (ended && "error" in ended) throw new Error(`${name}: ${ended.error.message}`);
    if (ended && !wants.length) delete state.slots[name];
  }

  #crash(state: OrderState, name: string, slot: Slot, steps: Step[]): void {
    const to = successor(state);
    if (name.endsWith(LATE) || !spend(to, "crash")) return;
    delete to.slots[name];
    delete to.slots[name + LATE];
    if (slot.held !== undefined) put(to, RECEIPTS, slot.held);
    steps.push({ label: `${name} dies`, state: to, fault: true, by: name });
  }

  async #begin(state: OrderState, steps: Step[]): Promise<void> {
    const { emitters, trackers = 1, sweepers = 1, atOnce = 2 } = this.model.scenario;
    if (Object.keys(state.slots).length >= atOnce) return;
    for (const emitter of emitters) {
      if (state.begun.includes(emitter.name) || !this.#mayBegin(state, emitter)) continue;
      const to = successor(state);
      to.begun = added(to.begun, emitter.name);
      to.before = { ...to.before };
      const ids = emitter.letters.map(({ id }) => id);
      for (const [n, id] of ids.entries()) to.before[id] = [...state.promised, ...ids.slice(0, n)];
      const { name, letters, session } = emitter;
      await this.#enter(to, `emitter ${name}`, "emit", { name, letters, session });
      steps.push({ label: `${name} emits ${ids.join(", ")}`, state: to, fault: false, by: `emitter ${name}` });
    }
    for (const wire of new Set(state.queues[RECEIPTS]))
      for (let n = 1; n <= trackers; n++) {
        const name = `tracker-${n}`;
        if (name in state.slots) continue;
        const to = successor(state);
        take(to, RECEIPTS, wire);
        const receipt = this.laws.receipts.get(wire);
        await this.#enter(to, name, "track", { name, wire: receipt }, wire);
        steps.push({ label: `${name} takes: ${textOf(receipt)}`, state: to, fault: false, by: name });
        // They are all alike.
        break;
      }
    if (!this.#isDue(state)) return;
    for (let n = 1; n <= sweepers; n++) {
      const name = `sweeper-${n}`;
      if (name in state.slots) continue;
      const to = successor(state);
      await this.#enter(to, name, "pass", { name });
      steps.push({ label: `${name} begins a pass`, state: to, fault: false, by: name });
      break;
    }
  }

  /** Those that it waits for are promised, or never will be. */
  #mayBegin({ promised, begun, slots }: OrderState, { after = [] }: Emitter): boolean {
    return after.every(
      id =>
        promised.includes(id) ||
        this.model.scenario.emitters.some(
          ({ name, letters }) =>
            letters.some(letter => letter.id === id) && begun.includes(name) && !(`emitter ${name}` in slots)
        )
    );
  }

  #isDue(state: OrderState): boolean {
    return Object.keys(state.docs).some(key => {
      const { dueAt } = this.laws.get(state, key) as Doc;
      return dueAt !== undefined && (dueAt as Date) <= NOW;
    });
  }

  /** Delays are longer than anything takes: whoever is still at it when they are over is slow. */
  #isBusy({ slots, queues, running }: OrderState): boolean {
    return Object.keys(slots).length + running.length > 0 || Object.values(queues).some(wires => wires.length);
  }

  #handlers(state: OrderState, steps: Step[]): void {
    const receipt = (to: OrderState, { id, group, attempt, key }: EventWire, outcome: ReceiptWire["outcome"]) =>
      put(to, RECEIPTS, this.laws.receipts.id({ group, id, attempt, outcome, orderKey: key }));
    for (const group of this.model.scenario.groups)
      for (const number of new Set(state.queues[group])) {
        const wire = this.laws.wires.get(number);
        const to = successor(state);
        take(to, group, number);
        if (state.handled.includes(`${group} ${wire.id}`)) {
          receipt(to, wire, "handled");
          steps.push({ label: `${group} has handled ${wire.id} before`, state: to, fault: false });
          continue;
        }
        if (
          state.running.some(
            other => this.laws.wires.get(other).id === wire.id && this.laws.wires.get(other).group === group
          )
        )
          continue;
        this.laws.handles(state, wire);
        to.running = [...state.running, number].sort((a, b) => a - b);
        steps.push({ label: `${group} begins to handle ${wire.id}`, state: to, fault: false });
      }
    for (const number of state.running) {
      const wire = this.laws.wires.get(number);
      const { group, id } = wire;
      const end = (what: string, fault?: Fault): OrderState | undefined => {
        const to = successor(state);
        if (fault && !spend(to, fault)) return undefined;
        to.running = without(state.running, number);
        steps.push({ label: `${group} ${what} ${id}`, state: to, fault: fault !== undefined });
        return to;
      };
      const handled = end("has handled") as OrderState;
      handled.handled = added(state.handled, `${group} ${id}`);
      receipt(handled, wire, "handled");
      const failed = end("fails to handle", "fail");
      if (failed) receipt(failed, wire, "failed");
      const died = end("dies of", "crash");
      if (died) put(died, group, number);
    }
  }

  #broker(state: OrderState, steps: Step[]): void {
    for (const [queue, wires] of Object.entries(state.queues))
      for (const wire of new Set(wires)) {
        const twice = successor(state);
        put(twice, queue, wire);
        if (spend(twice, "duplicate"))
          steps.push({ label: `broker: ${queue} has one twice`, state: twice, fault: true });
        const gone = successor(state);
        take(gone, queue, wire);
        if (queue !== RECEIPTS && spend(gone, "purge"))
          steps.push({ label: `broker: ${queue} loses one`, state: gone, fault: true });
      }
  }

  async #humans(state: OrderState, steps: Step[]): Promise<void> {
    for (const id of this.laws.letters.keys())
      for (const act of HANDS) {
        const row = this.laws.get(state, rowKey(id));
        const to = successor(state);
        if (row?.status !== STATUS.dead || "human" in state.slots || !spend(to, act)) continue;
        if (act === "retry") to.retried = added(to.retried, id);
        await this.#enter(to, "human", "hand", { act, id });
        steps.push({ label: `a human will ${act} ${id}`, state: to, fault: true });
      }
  }

  #time(state: OrderState, steps: Step[]): void {
    const fault = this.#isBusy(state);
    for (const [key, number] of Object.entries(state.docs)) {
      const doc = this.laws.get(state, key) as Doc;
      if (!doc.dueAt) continue;
      const isRunning = state.running.some(wire => rowKey(this.laws.wires.get(wire).id) === key);
      if (isRunning) continue;
      const rows = this.#later.get(number) ?? passed(key, doc);
      this.#later.set(number, rows);
      for (const [what, after] of rows) {
        const to = successor(state);
        if (fault && !spend(to, "slow")) continue;
        this.laws.write(to, key, after);
        if (to.docs[key] !== number) steps.push({ label: `time: ${key}, ${what}`, state: to, fault });
      }
    }
  }
}

/** The document after time has passed for it. */
function passed(key: string, doc: Doc): [string, Doc][] {
  if ((doc.dueAt as Date).getTime() !== LATER.getTime()) {
    // One that stands behind others is never due by itself.
    return key.startsWith("lanes/") || (doc.dueAt as Date) > NOW ? [] : later(doc);
  }
  return key.startsWith("lanes/") ? [["it is due", { ...doc, dueAt: EARLIER }]] : later(doc);
}
