import { type Status, TRANSITIONS } from "../../src/message/lifecycle";
import type { Change, Doc, Filter } from "../../src/stores/documents/collection";
import { RECEIPT_TYPE } from "../../src/wire/receipt";
import { answeredIn, changed, countedIn, match, read, stored } from "./database";
import { groupsOf, ID, QUEUES, queueOf, type Wire } from "./parts";
import type { Answer, Effect } from "./stage";
import { Pool } from "./values";
import { added, Broken, type Fault, type Model, put, type Slot, type State, statusOf, successor } from "./world";

const CONFIRMED = { value: { outcome: "confirmed" } };
const UNKNOWN = { value: { outcome: "unknown", reason: "no answer" } };
const ONE = { value: 1 };
const NONE = { value: 0 };
/** Seen by one process only: what it does with itself, and collections that nobody else reads here. */
const OWN = new Set(["ack", "handle", "pause", "inbox", "discarded", "parked"]);

export const RECEIPTS = [QUEUES.receipts, QUEUES.callbackReceipts];

interface Looked {
  answer: Answer;
  /** The row after the change, where the filter matched. */
  after?: Doc;
}

/** One way an effect may go. */
export interface Way {
  state: State;
  answer?: Answer;
  fault?: Fault;
  what?: string;
}

/** What effects do to the world, and the laws: each is looked at where something happens that could break it. */
export class Effects {
  readonly wires = new Pool<Wire>();
  readonly rows = new Pool<Doc>();
  readonly groups: string[];
  readonly #looked = new WeakMap<Effect, Map<number | undefined, Looked>>();

  constructor(readonly model: Model) {
    this.groups = groupsOf(model.scenario);
  }

  row(state: State): Doc | undefined {
    return state.row === undefined ? undefined : this.rows.get(state.row);
  }

  /** The group has written down that it has handled the message. */
  isKnown(state: State, group: string): boolean {
    return state.inbox.includes(group) || answeredIn(this.row(state)).includes(group);
  }

  /** Whether its place among the others' steps makes no difference. */
  isOwn(state: State, { op, collection, filter = {} }: Effect): boolean {
    if (OWN.has(op) || OWN.has(String(collection))) return true;
    const row = this.row(state);
    if (this.model.mutation || collection !== "messages" || !row) return false;
    // Nothing changes a consumed row; that a row is there stays so; and what it has left behind does not come back.
    const { claim, status, partial } = filter as { claim?: string; status?: string; partial?: true };
    const settled = row.status === "consumed" || op === "db.insert";
    return (
      settled ||
      (op === "db.update" &&
        ((typeof claim === "string" && claim !== row.claim) ||
          (status === "intended" && row.status !== status) ||
          (partial === true && !row.partial)))
    );
  }

  /** How an effect may go, now; none: not yet. */
  of(state: State, name: string, slot: Slot, effect: Effect): Way[] {
    const same = (value: unknown): Way[] => [{ state: successor(state), answer: { value } }];
    const { op } = effect;
    if (op.startsWith("db.")) return this.#database(state, name, effect);
    if (op === "publish") return this.#publish(state, name, slot, effect);
    if (op === "pause") return same(undefined);
    if (op === "depth") return same({ ready: (state.queues[effect.queue as string] ?? []).length, consumers: 1 });
    if (op === "pauses") return same(state.paused);
    if (op === "ack") return this.#ack(state, name, slot);
    if (op === "handle" && slot.known)
      throw new Broken(`law 3: ${effect.group as string} handles again what it had written down as handled`);
    if (op === "handle") return this.#handle(state, effect.group as string, effect.fresh as boolean | undefined);
    if (op === "neighbour") return same(undefined);
    if (op === "barrier" || op === "commit") return this.#business(state, op);
    throw new Error(`The world does not know '${op}'.`);
  }

  #database(state: State, name: string, effect: Effect): Way[] {
    const { op, collection, ...details } = effect;
    const to = successor(state);
    const way = (value: unknown, what: string): Way[] => [
      { state: to, answer: { value }, what: `${what} ${collection as string}` }
    ];
    if (collection === "inbox") {
      const [, group] = [
        "",
        JSON.parse(
          (details.docs as Doc[] | undefined)?.[0]?._id ??
            ((details.filter as { _id: { $in: string[] } })._id.$in[0] as string)
        )[0] as string
      ];
      if (op === "db.insert") to.inbox = added(state.inbox, group);
      return op === "db.insert"
        ? way([!state.inbox.includes(group)], "insert into")
        : way(state.inbox.includes(group) ? [{ _id: JSON.stringify([group, ID]) }] : [], "find in");
    }
    if (collection === "barriers") {
      if (op === "db.find") return way(state.barrier ? [{ _id: ID, state: state.barrier }] : [], "find in");
      if (op === "db.remove") {
        if (state.barrier === "withdrawn") to.barrier = undefined;
        return way(1, "remove from");
      }
      // It waits for a transaction that has written the same key.
      if (state.transaction && this.model.scenario.intent === "barrier") return [];
      if (details.skipped) return way([true], "skip");
      to.barrier ??= "withdrawn";
      return way([!state.barrier], "insert into");
    }
    if (collection !== "messages") return way(op === "db.insert" ? [true] : [], op);
    const row = this.row(state);
    if (op === "db.insert") {
      if (!row) this.#write(to, name, undefined, stored((details.docs as Doc[])[0] as Doc));
      return way([!row], "insert into");
    }
    const { answer, after } = this.#look(effect, state.row);
    if (op === "db.find") return [{ state: to, answer, what: "find in messages" }];
    if (after) this.#write(to, name, row, after, details.change as Change);
    return [{ state: to, answer, what: after ? "update messages" : "do not update messages" }];
  }

  /** What a filter finds in a row, and what a change makes of it. */
  #look(effect: Effect, number: number | undefined): Looked {
    const known = this.#looked.get(effect) ?? new Map<number | undefined, Looked>();
    this.#looked.set(effect, known);
    let looked = known.get(number);
    if (!looked) {
      const row = number === undefined ? undefined : this.rows.get(number);
      const found = row !== undefined && match(row, effect.filter as Filter);
      if (effect.op === "db.find") looked = { answer: { value: found ? [read(row)] : [] } };
      else looked = { answer: found ? ONE : NONE, ...(found && { after: changed(row, effect.change as Change) }) };
      known.set(number, looked);
    }
    return looked;
  }

  #write(to: State, name: string, before: Doc | undefined, after: Doc, change?: Change): void {
    const [was, is] = [statusOf(before), statusOf(after)];
    if (before && was !== is && !TRANSITIONS[was as Status].includes(is as Status))
      throw new Broken(`law 6: ${was} → ${is} is no legal transition`);
    const failures = countedIn(after.failures as string[]);
    if (new Set(failures).size < failures.length)
      throw new Broken(`law 5: a failure was counted twice: ${failures.join(", ")}`);
    const { scenario, faults } = this.model;
    const failed = (faults.fail ?? 0) - (to.left.fail ?? 0);
    const [first = ""] = this.groups;
    const fails = (doc?: Doc) => ((doc?.failed ?? []) as string[]).includes(first);
    if (to.paused && !fails(before) && fails(after) && failed < scenario.maxAttempts)
      throw new Broken(`law 5: a pause has killed it: only ${failed} of ${scenario.maxAttempts} attempts have failed`);
    const expected = this.groups.filter(group => !to.handled.includes(group));
    // Of a message that named no group, the first one to answer is enough.
    const enough = scenario.unknownGroups ? to.handled.length > 0 : !expected.length;
    if (is === "consumed" && !enough) throw new Broken(`law 3: consumed before ${expected.join(", ")} handled it`);
    if (is === "cancelled" && to.handled.length) throw new Broken("law 2: called off, though it was sent and handled");
    if (is === "withdrawn" && to.business)
      throw new Broken("intent: withdrawn, though its business write is committed");
    to.row = this.rows.id(after);
    const slot = to.slots[name] as Slot;
    if (change?.$set?.claim) to.slots[name] = { ...slot, answered: answeredIn(after) };
  }

  #publish(state: State, name: string, slot: Slot, effect: Effect): Way[] {
    const { to, messageId, type, headers, body } = effect as unknown as {
      to: { event: string } | { queue: string };
    } & Wire;
    const groups = "event" in to ? this.groups : this.groups.filter(group => queueOf(group) === to.queue);
    const queues = "event" in to ? this.groups.map(queueOf) : [to.queue];
    const what = `publish to ${"event" in to ? "all groups" : to.queue.replace("reliable.", "")}`;
    if (groups.length) this.#announced(state, name, slot, groups, Number(headers["x-reliable-attempt"]));
    const arrived = (): State => {
      const next = successor(state);
      for (const queue of queues) put(next, queue, this.wires.id({ queue, messageId, type, headers, body }));
      if (type === RECEIPT_TYPE) next.receipted = added(state.receipted, name);
      if (groups.length && name !== "emit")
        next.sent =
          state.sent &&
          [...state.sent, ...groups.map(group => `${group} ${String(headers["x-reliable-attempt"])}`)].sort();
      return next;
    };
    return [
      { state: arrived(), answer: CONFIRMED, what },
      { state: arrived(), answer: UNKNOWN, fault: "lose", what: `${what}, its confirm is lost` },
      { state: successor(state), answer: effect.trusted ? CONFIRMED : UNKNOWN, fault: "lose", what: `${what}, lost` }
    ];
  }

  /** A message is about to reach groups. */
  #announced(state: State, name: string, slot: Slot, groups: string[], attempt: number): void {
    if (this.model.scenario.intent && !state.business)
      throw new Broken("intent: announced, though its business write is not committed");
    if (name === "emit") return;
    const again = groups.find(group => slot.answered?.includes(group));
    if (again) throw new Broken(`law 9: sent to ${again} again, which had answered when the row was claimed`);
    const twice = groups.find(group => state.sent?.includes(`${group} ${attempt}`));
    if (twice) throw new Broken(`law 7: attempt ${attempt} was sent to ${twice} twice, though nothing went wrong`);
  }

  #ack(state: State, name: string, slot: Slot): Way[] {
    const [queue] = slot.held ?? [""];
    const group = this.groups.find(known => queueOf(known) === queue);
    if (group && !state.receipted.includes(name) && !answeredIn(this.row(state)).includes(group))
      throw new Broken(`law 3: the delivery of ${group} was acked before its receipt was confirmed`);
    const next = successor(state);
    next.slots[name] = { ...slot, held: undefined };
    if (RECEIPTS.includes(queue)) this.#recorded(state, slot);
    return [{ state: next, answer: {}, what: `ack of ${queue.replace("reliable.", "")}` }];
  }

  /** A receipt is about to be forgotten by the broker. */
  #recorded(state: State, slot: Slot): void {
    const { type, body } = this.wires.get((slot.held as [string, number])[1]);
    if (type !== RECEIPT_TYPE) return;
    const { group, items } = JSON.parse(body.toString()) as { group: string; items: { outcome: string }[] };
    if (items[0]?.outcome === "handled" && !answeredIn(this.row(state)).includes(group))
      throw new Broken(`law 2: a receipt of ${group} was acked and is nowhere`);
  }

  #handle(state: State, group: string, fresh?: boolean): Way[] {
    if (statusOf(this.row(state)) === "cancelled") throw new Broken("law 2: sent, though it was called off");
    const done = successor(state);
    done.handled = added(state.handled, group);
    const fails = (value: string, fault: Fault): Way => ({
      state: successor(state),
      answer: { value },
      fault,
      what: value
    });
    return [
      { state: done, answer: { value: "handled" }, what: "handled" },
      fails("failed", "fail"),
      ...(fresh === undefined ? [] : [fails("outage", "outage")]),
      // Of one that has failed while others succeeded nothing is given back.
      ...(fresh ? [fails("outage later", "outage")] : [])
    ];
  }

  #business(state: State, op: string): Way[] {
    const to = successor(state);
    const way = (what: string, answer: Answer = {}): Way => ({ state: to, answer, what });
    if (op === "barrier") {
      if (state.barrier)
        return [
          way("barrier refused", { error: { name: "ReliableError", message: "withdrawn", type: "RELIABLE_WITHDRAWN" } })
        ];
      to.transaction = "open";
      return [way("barrier")];
    }
    this.committed(to);
    const lost: Way = {
      state: successor(to),
      answer: { error: { name: "MongoNetworkError", message: "connection lost" } },
      fault: "commit",
      what: "commit, its answer is lost"
    };
    const refused: Way = {
      state: { ...successor(state), transaction: undefined },
      answer: { error: { name: "Error", message: "the business write is refused" } },
      fault: "commit",
      what: "commit refused"
    };
    return [way("commit"), lost, refused];
  }

  committed(to: State): void {
    if (statusOf(this.row(to)) === "withdrawn")
      throw new Broken("intent: its business write was committed after it was withdrawn");
    if (to.transaction) to.barrier = "committed";
    to.transaction = undefined;
    to.business = true;
  }
}
