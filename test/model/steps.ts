import { STATUS } from "../../src/message/lifecycle";
import { later } from "./database";
import { Effects, RECEIPTS, type Way } from "./effects";
import { PAYLOAD, QUEUES, queueOf, scriptsOf } from "./parts";
import { type Answer, type Effect, NOW, Theatre } from "./stage";
import { textOf } from "./values";
import { HAND, type Model, put, type Slot, type State, type Step, spend, successor, take } from "./world";

const TIMEOUT = { error: { name: "RequestTimeoutError", message: "no answer", type: "REQUEST_TIMEOUT" } };
/** Names the part of a process that does what the process does not wait for. */
const LATE = " late";

/** The world around the product's code: a store with one row, a broker, processes that die, and time. */
export class Steps {
  readonly theatre: Theatre;
  readonly effects: Effects;
  readonly #wanted = new WeakMap<Effect, Effect>();
  readonly #texts = new WeakMap<object, string>();
  readonly #later = new Map<number, [string, number][]>();

  constructor(readonly model: Model) {
    this.theatre = new Theatre(scriptsOf(model.scenario));
    this.effects = new Effects(model);
  }

  async initial(): Promise<State> {
    const state: State = {
      inbox: [],
      business: false,
      queues: {},
      slots: {},
      promised: false,
      handled: [],
      sent: [],
      receipted: [],
      left: this.model.faults
    };
    await this.#enter(state, "emit", "emit", "", undefined, {});
    return state;
  }

  /** Everything that may happen next. Throws Broken. */
  async next(state: State): Promise<Step[]> {
    const steps: Step[] = [];
    for (const [name, slot] of Object.entries(state.slots)) {
      // What nobody else can see or hinder comes first: every other order leads to the same.
      const own = this.theatre.acts.get(slot.act).wants.find(({ effect }) => this.effects.isOwn(state, effect));
      if (!own) continue;
      await this.#perform(state, name, slot, own.index, own.effect, steps);
      await this.#crash(state, name, slot, steps);
      return steps;
    }
    for (const [name, slot] of Object.entries(state.slots)) {
      for (const { index, effect } of this.theatre.acts.get(slot.act).wants)
        await this.#perform(state, name, slot, index, effect, steps);
      await this.#crash(state, name, slot, steps);
    }
    await this.#begin(state, steps);
    this.#time(state, steps);
    this.#pause(state, steps);
    this.#broker(state, steps);
    return steps;
  }

  async #perform(state: State, name: string, slot: Slot, index: number, wanted: Effect, steps: Step[]): Promise<void> {
    const effect = this.#mutated(wanted, name);
    const ways =
      effect.op === "call"
        ? await this.#call(state, name, slot, index, effect)
        : this.effects.of(state, name, slot, effect);
    for (const { state: to, answer, fault, what = effect.op } of ways) {
      if (fault && !spend(to, fault)) continue;
      if (answer) await this.#advance(to, name, index, answer);
      steps.push({ label: `${name}: ${what}`, state: to, fault: fault !== undefined });
    }
  }

  #mutated(wanted: Effect, name: string): Effect {
    const { want } = this.model.mutation ?? {};
    if (!want) return wanted;
    const known = this.#wanted.get(wanted) ?? want(wanted, name);
    this.#wanted.set(wanted, known);
    return known;
  }

  /** The text of what comes again as the same object. */
  #textOf(value: object): string {
    const known = this.#texts.get(value) ?? textOf(value);
    this.#texts.set(value, known);
    return known;
  }

  async #advance(state: State, name: string, index: number, answer: Answer): Promise<void> {
    const slot = state.slots[name];
    if (!slot) return;
    const { theatre } = this;
    const number = theatre.answers.id(answer);
    const act = theatre.advanced(slot.act, index, number) ?? (await theatre.advance(slot.act, index, number));
    state.slots[name] = { ...slot, act };
    await this.#settled(state, name);
  }

  /** Notes count at once; who has come to the end leaves. */
  async #settled(state: State, name: string): Promise<void> {
    const slot = state.slots[name] as Slot;
    const { wants, ended } = this.theatre.acts.get(slot.act);
    const note = wants.find(({ effect }) => effect.op === "note");
    if (note) {
      state.promised = true;
      return this.#advance(state, name, note.index, {});
    }
    const { eager } = this.model.mutation ?? {};
    for (const { index, effect } of wants) {
      const answer = eager?.(effect, name);
      if (answer === undefined || name.endsWith(LATE)) continue;
      // What it does happens in a slot of its own, which is lost with its process.
      await this.#enter(state, name + LATE, "late", textOf(effect), effect, {});
      return this.#advance(state, name, index, { value: answer });
    }
    if (!ended || wants.length) return;
    delete state.slots[name];
    if (slot.caller)
      await this.#advance(
        state,
        slot.caller[0],
        slot.caller[1],
        "error" in ended ? { error: ended.error } : { value: ended.value }
      );
  }

  async #enter(
    state: State,
    name: string,
    script: string,
    key: string,
    part: unknown,
    rest: Omit<Slot, "act">
  ): Promise<void> {
    const { theatre } = this;
    state.slots[name] = { act: theatre.begun(script, key) ?? (await theatre.begin(script, key, part)), ...rest };
    await this.#settled(state, name);
  }

  async #call(state: State, name: string, slot: Slot, index: number, { action, params }: Effect): Promise<Way[]> {
    if (action === "orders.source") {
      const value = state.business
        ? PAYLOAD
        : state.slots.emit && this.model.scenario.intent === "source"
          ? "unknown"
          : null;
      return [{ state: successor(state), answer: { value }, what: "asks the source" }];
    }
    const rpc = `rpc of ${name}`;
    const under = state.slots[rpc];
    // One at a time: while it is under way, its caller waits or gives up.
    if (under && !under.caller) return [];
    if (under) {
      const late = successor(state);
      late.slots[rpc] = { ...under, caller: undefined };
      return [{ state: late, answer: TIMEOUT, fault: "timeout", what: "RPC without an answer" }];
    }
    const begun = successor(state);
    await this.#enter(begun, rpc, "answer", this.#textOf(params as object), params, {
      caller: [name, index],
      answered: slot.answered
    });
    return [{ state: begun, what: "RPC" }];
  }

  async #crash(state: State, name: string, slot: Slot, steps: Step[]): Promise<void> {
    const to = successor(state);
    if (name.endsWith(LATE) || !spend(to, "crash")) return;
    delete to.slots[name];
    delete to.slots[name + LATE];
    if (slot.held) put(to, ...slot.held);
    const asked = to.slots[`rpc of ${name}`];
    if (asked) to.slots[`rpc of ${name}`] = { ...asked, caller: undefined };
    if (slot.caller) await this.#advance(to, ...slot.caller, TIMEOUT);
    if (name === "emit" && state.transaction)
      to.transaction = this.theatre.acts.get(slot.act).wants.some(({ effect }) => effect.op === "commit")
        ? "committing"
        : "orphaned";
    steps.push({ label: `${name} dies`, state: to, fault: true });
  }

  async #begin(state: State, steps: Step[]): Promise<void> {
    const start = async (name: string, script: string, part: unknown, from?: [string, number]) => {
      if (
        state.slots[name] ||
        Object.entries(state.slots).filter(([, slot]) => !slot.caller).length >= (this.model.atOnce ?? Infinity)
      )
        return;
      const to = successor(state);
      const early = from?.[0] === QUEUES.checks && isBusy(state);
      if (early && !spend(to, "slow")) return;
      if (from) take(to, ...from);
      const known = script === "handle" && this.effects.isKnown(state, name);
      await this.#enter(to, name, script, `${name} ${from?.[1]}`, part, { held: from, ...(known && { known }) });
      steps.push({
        label: `${name} ${from ? `takes from ${from[0].replace("reliable.", "")}` : "begins a pass"}`,
        state: to,
        fault: early
      });
    };
    for (const [queue, wires] of Object.entries(state.queues)) {
      for (const wire of new Set(wires)) {
        const group = this.effects.groups.find(known => queueOf(known) === queue);
        const part = { wire: this.effects.wires.get(wire) };
        if (group && (group !== this.effects.groups[0] || state.paused !== "paused"))
          await start(group, "handle", { group, ...part }, [queue, wire]);
        if (RECEIPTS.includes(queue))
          for (let n = 1; n <= (this.model.trackers ?? 1); n++)
            await start(`tracker-${n}`, "track", { nodeID: `tracker-${n}`, ...part }, [queue, wire]);
        if (queue === QUEUES.checks)
          for (let n = 1; n <= (this.model.checkers ?? 1); n++)
            await start(`checker-${n}`, "track", { nodeID: `checker-${n}`, ...part }, [queue, wire]);
      }
    }
    const row = this.effects.row(state);
    if (row?.dueAt && (row.dueAt as Date) < NOW)
      for (let n = 1; n <= (this.model.sweepers ?? 1); n++)
        await start(`sweeper-${n}`, "pass", { nodeID: `sweeper-${n}` });
    for (const act of ["retry", "resolve", "cancel"] as const) {
      const to = successor(state);
      if (row?.status !== (act === "cancel" ? STATUS.scheduled : STATUS.dead) || state.slots.human || !spend(to, act))
        continue;
      await this.#enter(to, "human", act, act, undefined, {});
      steps.push({ label: `a human will ${act}`, state: to, fault: true });
    }
  }

  #time(state: State, steps: Step[]): void {
    const row = this.effects.row(state);
    if (!row?.dueAt) return;
    const busy = isBusy(state);
    const now = state.row as number;
    const rows =
      this.#later.get(now) ?? later(row).map(([what, doc]): [string, number] => [what, this.effects.rows.id(doc)]);
    this.#later.set(now, rows);
    for (const [what, number] of rows) {
      if (number === now) continue;
      const to = successor(state);
      to.row = number;
      if (busy && !spend(to, "slow")) continue;
      steps.push({ label: `time: ${what}`, state: to, fault: busy });
    }
  }

  #pause(state: State, steps: Step[]): void {
    const queue = queueOf(this.effects.groups[0] as string);
    const inHand = state.queues[HAND] ?? [];
    for (const wire of new Set(inHand)) {
      const to = successor(state);
      take(to, HAND, wire);
      put(to, queue, wire);
      steps.push({ label: "its consumer gives it back", state: to, fault: false });
    }
    if (state.paused === "paused")
      steps.push({
        label: "a human resumes the group",
        state: { ...successor(state), paused: "lately" },
        fault: false
      });
    if (state.paused === "lately" && !inHand.length) {
      const to: State = { ...successor(state), paused: undefined };
      const busy = isBusy(state);
      if (!busy || spend(to, "slow")) steps.push({ label: "time: the pause is long over", state: to, fault: busy });
    }
    // What has begun to sweep may take for silence what was given to a consumer a moment ago, with a pause or without.
    if (state.paused || Object.keys(state.slots).some(name => /^sweeper|^checker/.test(name))) return;
    for (const held of [undefined, ...new Set(state.queues[queue])]) {
      const to: State = { ...successor(state), paused: "paused" };
      if (!spend(to, "pause")) return;
      if (held !== undefined) {
        take(to, queue, held);
        put(to, HAND, held);
      }
      const what = `a human pauses the group${held === undefined ? "" : ", whose consumer has just got the message"}`;
      steps.push({ label: what, state: to, fault: true });
    }
  }

  #broker(state: State, steps: Step[]): void {
    for (const [queue, wires] of Object.entries(state.queues)) {
      if (queue === HAND) continue;
      for (const wire of new Set(wires)) {
        const twice = successor(state);
        put(twice, queue, wire);
        if (spend(twice, "duplicate"))
          steps.push({ label: `broker: ${queue} has one twice`, state: twice, fault: true });
        const gone = successor(state);
        take(gone, queue, wire);
        // A group's queue may be purged at any time; a check only when a row stands for it.
        if (
          (this.effects.groups.some(group => queueOf(group) === queue) ||
            (queue === QUEUES.checks && state.row !== undefined)) &&
          spend(gone, "purge")
        )
          steps.push({ label: `broker: ${queue} loses one`, state: gone, fault: true });
      }
    }
    if (state.transaction && state.transaction !== "open") {
      const aborted = successor(state);
      aborted.transaction = undefined;
      steps.push({ label: "business: the orphaned transaction is aborted", state: aborted, fault: false });
      if (state.transaction === "committing") {
        const committed = successor(state);
        this.effects.committed(committed);
        steps.push({ label: "business: the orphaned commit arrives", state: committed, fault: true });
      }
    }
  }
}

/** Delays are longer than anything takes but a backlog of events; whoever is still at it when they are over is slow. */
function isBusy({ slots, queues }: State): boolean {
  return Object.keys(slots).length > 0 || RECEIPTS.some(queue => queues[queue]?.length);
}
