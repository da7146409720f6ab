import { BULK_STATE } from "../../../src/message/bulk";
import { STATUS } from "../../../src/message/lifecycle";
import type { Change, Doc, Filter, Page } from "../../../src/stores/documents/collection";
import { match } from "../database";
import type { World } from "../explorer";
import { type Answer, type Effect, NOW, Theatre } from "../stage";
import { textOf } from "../values";
import { bulkScripts, changed, type FilterAct, type Hand, lived, REFUSED } from "./parts";
import { type BulkFaults, type BulkModel, type BulkWorldState, EARLIER, JUST_BEFORE, Laws, messageKey } from "./world";

type Fault = keyof BulkFaults;

interface Step {
  label: string;
  state: BulkWorldState;
  fault: boolean;
}

/** One way an effect may go. */
interface Way {
  state: BulkWorldState;
  answer: Answer;
  what: string;
  fault?: Fault;
}

const LATE = " late";
const AWAY: Answer = {
  error: { name: "ReliableRetryableError", message: "away", type: "RELIABLE_UNAVAILABLE", retryable: true }
};
const TOO_MANY = Array.from({ length: 11 }, (_, n) => ({ _id: `other ${n}`, status: STATUS.dead, at: NOW }));
const HANDS: FilterAct[] = ["retry", "resolve", "discard"];

function successor(state: BulkWorldState): BulkWorldState {
  return { ...state, slots: { ...state.slots } };
}

function spend(state: BulkWorldState, fault: Fault): boolean {
  const left = state.left[fault] ?? 0;
  if (left) state.left = { ...state.left, [fault]: left - 1 };
  return left > 0;
}

/** The world around a bulk act: a store with a few messages, workers that die, humans, and time. */
export class BulkWorld implements World<BulkWorldState> {
  readonly begins = "ann begins a bulk act";
  readonly theatre: Theatre;
  readonly laws: Laws;
  readonly #lives = new Map<string, Promise<Doc>>();

  constructor(readonly model: BulkModel) {
    const { act, size = 1 } = model.scenario;
    this.theatre = new Theatre(bulkScripts(act, size));
    this.laws = new Laws(model);
  }

  async initial(): Promise<BulkWorldState> {
    const state = this.laws.initial();
    await this.#enter(state, "ann", "begin", { number: 0 });
    return this.model.scenario.begun ? this.#alone(state, "ann") : state;
  }

  /** All that is still to be done in this slot, with nothing in between. */
  async #alone(from: BulkWorldState, name: string): Promise<BulkWorldState> {
    let state = from;
    while (name in state.slots) {
      const [want] = this.theatre.acts.get(state.slots[name] as number).wants;
      if (!want) throw new Error(`${name} waits for nothing.`);
      const effect = (this.model.mutation?.want?.(want.effect, name) as Effect | undefined) ?? want.effect;
      const [way] = this.#database(state, name, effect) as [Way];
      state = way.state;
      await this.#advance(state, name, want.index, way.answer);
    }
    return state;
  }

  keyOf({ docs, slots, acted, died, byHand, allowed, left }: BulkWorldState): string {
    const sorted = (map: object) => Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
    return JSON.stringify([sorted(docs), sorted(slots), acted, died, byHand, allowed, sorted(left)]);
  }

  endOf(state: BulkWorldState): string {
    return this.laws.bulkOf(state)?.state ?? "not begun";
  }

  wrongEnd(state: BulkWorldState): string | undefined {
    return this.laws.wrongEnd(state);
  }

  async next(state: BulkWorldState): Promise<Step[]> {
    const steps: Step[] = [];
    for (const [name, act] of Object.entries(state.slots)) {
      // Its place among the others' steps makes no difference.
      const own = this.theatre.acts.get(act).wants.find(({ effect }) => isOwn(effect));
      if (!own) continue;
      await this.#perform(state, name, own.index, own.effect, steps);
      this.#crash(state, name, steps);
      return steps;
    }
    for (const [name, act] of Object.entries(state.slots)) {
      for (const { index, effect } of this.theatre.acts.get(act).wants)
        await this.#perform(state, name, index, effect, steps);
      this.#crash(state, name, steps);
    }
    await this.#workers(state, steps);
    await this.#humans(state, steps);
    await this.#messages(state, steps);
    return steps;
  }

  async #perform(state: BulkWorldState, name: string, index: number, wanted: Effect, steps: Step[]): Promise<void> {
    const effect = (this.model.mutation?.want?.(wanted, name) as Effect | undefined) ?? wanted;
    for (const { state: to, answer, what, fault } of this.#database(state, name, effect)) {
      if (fault && !spend(to, fault)) continue;
      await this.#advance(to, name, index, answer);
      steps.push({ label: `${name}: ${what}`, state: to, fault: fault !== undefined });
    }
  }

  #database(state: BulkWorldState, name: string, effect: Effect): Way[] {
    const { op, collection } = effect;
    const filter = (effect.filter ?? {}) as Filter;
    const what = `${op.replace("db.", "")} ${collection as string}`;
    const found = Object.keys(state.docs)
      .filter(key => key.startsWith(`${collection as string}/`))
      .sort()
      .flatMap((key): [string, Doc][] => {
        const doc = this.laws.get(state, key) as Doc;
        return match(doc, filter) ? [[key, doc]] : [];
      });
    if (op === "db.count")
      return [{ state: successor(state), answer: { value: { counted: found.length, more: false } }, what }];
    if (op === "db.find") return this.#find(state, found, effect, what);
    const to = successor(state);
    const done = (value: unknown, how = what): Way[] => [
      { state: to, answer: { value }, what: how },
      { state: successor(to), answer: AWAY, what: `${how}, the answer is lost`, fault: "lose" },
      { state: successor(state), answer: AWAY, what: `${how}, lost`, fault: "lose" }
    ];
    if (op === "db.insert") {
      const doc = effect.doc as Doc;
      const key = `${collection as string}/${doc._id}`;
      if (key in state.docs) return done(false, `${what}: it is there`);
      this.laws.write(to, name, key, doc);
      return done(true);
    }
    const refused = op === "db.update" && found.some(([, doc]) => doc.refuses);
    if (refused) return [{ state: to, answer: { error: REFUSED }, what: `${what}: refused` }];
    for (const [key, doc] of found)
      this.laws.write(to, name, key, op === "db.remove" ? undefined : changed(doc, effect.change as Change));
    const ids = found.map(([, { _id }]) => _id);
    return done(found.length, found.length ? `${what} ${ids.join(" ")}` : `${what}: nothing matches`);
  }

  #find(state: BulkWorldState, found: [string, Doc][], { page, filter }: Effect, what: string): Way[] {
    const { sort, limit, fields, without = [] } = page as Page;
    const answer = (docs: Doc[]): Way => {
      const value = docs.map(doc =>
        Object.fromEntries(
          Object.entries(doc).filter(([field]) =>
            fields ? field === "_id" || fields.includes(field) : !without.includes(field)
          )
        )
      );
      return {
        state: successor(state),
        answer: { value },
        what: `${what}: ${docs.map(({ _id }) => _id).join(" ") || "none"}`
      };
    };
    const docs = found.map(([, doc]) => doc);
    if (!sort) return [answer(docs.slice(0, limit))];
    const { bulk, status } = filter as Filter;
    if (typeof bulk === "string")
      return [
        answer([]),
        ...(status === STATUS.dead ? [{ ...answer(TOO_MANY as Doc[]), fault: "tooMany" as const }] : [])
      ];
    // Of those of one instant a server returns whichever it likes.
    const [field, order] = Object.entries(sort)[0] as [string, 1 | -1];
    const at = (doc: Doc) => (doc[field] as Date).getTime();
    const sorted = (from: Doc[]) => [...from].sort((a, b) => order * (at(a) - at(b))).slice(0, limit);
    const ways = [sorted(docs), sorted([...docs].reverse())].map(answer);
    return textOf(ways[0]?.answer) === textOf(ways[1]?.answer) ? ways.slice(0, 1) : ways;
  }

  async #enter(state: BulkWorldState, name: string, script: string, part: object): Promise<void> {
    const key = textOf(part);
    state.slots[name] = this.theatre.begun(script, key) ?? (await this.theatre.begin(script, key, part));
    await this.#settled(state, name);
  }

  async #advance(state: BulkWorldState, name: string, index: number, answer: Answer): Promise<void> {
    const { [name]: slot } = state.slots;
    if (slot === undefined) return;
    const { theatre } = this;
    const number = theatre.answers.id(answer);
    state.slots[name] = theatre.advanced(slot, index, number) ?? (await theatre.advance(slot, index, number));
    await this.#settled(state, name);
  }

  /** Who has come to the end leaves. */
  async #settled(state: BulkWorldState, name: string): Promise<void> {
    const { wants, ended } = this.theatre.acts.get(state.slots[name] as number);
    for (const { index, effect } of wants) {
      const known = this.#known(state, effect);
      if (known) return this.#advance(state, name, index, known);
      const value = name.endsWith(LATE) ? undefined : this.model.mutation?.eager?.(effect, name);
      if (value === undefined) continue;
      // What it does happens in a slot of its own, which is lost with its process.
      await this.#enter(state, name + LATE, "late", effect);
      return this.#advance(state, name, index, { value });
    }
    if (ended && !wants.length) delete state.slots[name];
  }

  /** What came of those that were retried: told at the end, and looked at while it goes; the same in each state. */
  #known({ left }: BulkWorldState, { op, collection, filter }: Effect): Answer | undefined {
    const { bulk, status } = (filter ?? {}) as Filter;
    if (collection !== "messages" || typeof bulk !== "string") return undefined;
    if (op === "db.count") return { value: { counted: 0, more: false } };
    return op === "db.find" && !(left.tooMany && status === STATUS.dead) ? { value: [] } : undefined;
  }

  #crash(state: BulkWorldState, name: string, steps: Step[]): void {
    const to = successor(state);
    if (name.endsWith(LATE) || !spend(to, "crash")) return;
    delete to.slots[name];
    delete to.slots[name + LATE];
    steps.push({ label: `${name} dies`, state: to, fault: true });
  }

  async #workers(state: BulkWorldState, steps: Step[]): Promise<void> {
    const bulk = this.laws.bulkOf(state);
    if (!bulk) return;
    const { _id, state: is, claim, until } = bulk;
    if (until && until > NOW && until.getTime() - NOW.getTime() < 60_000) {
      const to = successor(state);
      const holder = claim?.split("#")[0] as string;
      const busy = holder in state.slots;
      if (!busy || spend(to, "slow")) {
        this.laws.write(to, "time", `bulks/${_id}`, { ...(bulk as unknown as Doc), until: EARLIER });
        steps.push({ label: `time: the claim of ${holder} ends`, state: to, fault: busy });
      }
    }
    if ((until && until > NOW) || (is !== BULK_STATE.running && is !== BULK_STATE.stopping)) return;
    for (let n = 1; n <= (this.model.scenario.workers ?? 1); n++) {
      const name = `worker-${n}`;
      if (name in state.slots) continue;
      const to = successor(state);
      await this.#enter(to, name, "work", { nodeID: name });
      steps.push({ label: `${name} looks`, state: to, fault: false });
    }
  }

  async #humans(state: BulkWorldState, steps: Step[]): Promise<void> {
    const bulk = this.laws.bulkOf(state);
    const change = async (what: "pause" | "resume" | "stop", from: string[]) => {
      const to = successor(state);
      if (!bulk || "ben" in state.slots || !from.includes(bulk.state) || (what !== "resume" && !spend(to, what)))
        return;
      await this.#enter(to, "ben", "change", { id: bulk._id, what });
      const after = await this.#alone(to, "ben");
      steps.push({ label: `ben will ${what} it`, state: after, fault: what !== "resume" });
    };
    await change("pause", [BULK_STATE.running]);
    await change("resume", [BULK_STATE.paused]);
    await change("stop", [BULK_STATE.running, BULK_STATE.paused]);
    for (const act of HANDS)
      for (const { id } of this.model.scenario.letters) {
        const to = successor(state);
        const row = this.laws.get(state, messageKey(id));
        if (row?.status !== STATUS.dead || "hand" in state.slots || !spend(to, act)) continue;
        await this.#enter(to, "hand", "hand", { act, id } satisfies Hand);
        steps.push({ label: `cleo will ${act} ${id}`, state: to, fault: true });
      }
  }

  /** The messages' own life. */
  async #messages(state: BulkWorldState, steps: Step[]): Promise<void> {
    const { letters, clockBehind } = this.model.scenario;
    for (const { id } of letters) {
      const key = messageKey(id);
      const row = this.laws.get(state, key);
      if (row?.claim) {
        const to = successor(state);
        const { claim: _claim, ...rest } = row;
        this.laws.write(to, "sweeper", key, rest as Doc);
        steps.push({ label: `the sweep has done with ${id}`, state: to, fault: false });
      }
      if (row?.status !== STATUS.pending) continue;
      for (const what of ["dies", "is handled"] as const) {
        const to = successor(state);
        if (!spend(to, what === "dies" ? "die" : "handle")) continue;
        const after = await this.#lived(state.docs[key] as number, row, clockBehind ? JUST_BEFORE : NOW, what);
        if (after === row) continue;
        this.laws.write(to, "group", key, after);
        if (what === "dies") to.died = [...new Set([...to.died, id])].sort();
        steps.push({ label: `${id} ${what}`, state: to, fault: true });
      }
    }
  }

  #lived(number: number, row: Doc, at: Date, what: "dies" | "is handled"): Promise<Doc> {
    const key = `${number} ${what}`;
    const known = this.#lives.get(key) ?? lived(row, at, what);
    this.#lives.set(key, known);
    return known;
  }
}

/** The record is written by each who begins, before it does anything else; the same one. */
function isOwn({ op, collection }: Effect): boolean {
  return op === "db.insert" && collection === "audit";
}
