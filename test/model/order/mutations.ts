import type { Change, Filter } from "../../../src/stores/documents/collection";
import type { Effect } from "../stage";
import type { Mutation } from "../world";
import { inTurn, ofBoth, ofOne, overtaking, withSession } from "./scenarios";
import type { OrderModel } from "./world";

/** A law broken on purpose, the scenario in which it matters, and what the model must find. */
export interface OrderMutant extends Mutation {
  isBlind?: boolean;
  model: OrderModel;
  breaks: RegExp;
}

interface Update extends Effect {
  filter: Filter;
  change: Change;
}

const groups = ["stock"];

function isUpdate(effect: Effect, collection: string): effect is Update {
  return effect.op === "db.update" && effect.collection === collection;
}

function without<T extends object>(from: T | undefined, ...fields: string[]): T {
  return Object.fromEntries(Object.entries(from ?? {}).filter(([field]) => !fields.includes(field))) as T;
}

/** Its filter names nothing. */
const undone = (effect: Effect): Effect => ({ ...effect, filter: { _id: "nobody" }, upsert: undefined });

const isAnnouncement = (effect: Effect): effect is Update =>
  isUpdate(effect, "lanes") && effect.change.$max?.top !== undefined;

/** The turns that it gives. */
const turnsIn = ({ change }: Update) => Object.keys(change.$set ?? {}).filter(path => path.startsWith("turns."));

export const ORDER_MUTANTS: OrderMutant[] = [
  {
    name: "put behind before it is announced",
    eager: (effect, slot) =>
      slot.startsWith("emitter") && isAnnouncement(effect as Effect) && !turnsIn(effect as Update).length
        ? 1
        : undefined,
    model: { scenario: { emitters: inTurn, groups }, faults: { crash: 1, switch: 1 } },
    breaks: /M4: m2 stands behind nobody|M2/
  },
  {
    name: "its announcement does not raise the lane's number",
    want: effect => (isAnnouncement(effect) ? { ...effect, change: without(effect.change, "$max") } : effect),
    model: { scenario: { emitters: inTurn, groups }, faults: {} },
    breaks: /M4: m2 stands behind nobody/
  },
  {
    name: "numbers are drawn from nowhere",
    want: effect => {
      const doc = effect.doc as { _id: string; place?: string } | undefined;
      return effect.op === "db.insert" && effect.collection === "messages" && doc?._id === "m4"
        ? { ...effect, doc: { ...doc, place: doc.place?.replace(/\d+$/, "000000000001") } }
        : effect;
    },
    model: { scenario: { emitters: overtaking, groups }, faults: { switch: 0 } },
    breaks: /M2: m4 has its turn/
  },
  {
    name: "a turn is given without repeating whose it was",
    want: effect =>
      isUpdate(effect, "lanes") && turnsIn(effect).length ? { ...effect, filter: { _id: effect.filter._id } } : effect,
    model: { scenario: { emitters: ofBoth, groups }, faults: { duplicate: 1, switch: 2 } },
    breaks: /M1|M3/
  },
  {
    name: "what is due is published, whosever turn it is",
    isBlind: true,
    model: { scenario: { emitters: ofOne, groups, sweepers: 2 }, faults: { slow: 1, switch: 0 } },
    breaks: /M1: m2 is sent to stock/
  },
  {
    name: "nobody is told to look for what is committed without a number",
    want: effect => (isUpdate(effect, "lanes") && effect.change.$max?.expects ? undone(effect) : effect),
    model: { scenario: { emitters: withSession, groups }, faults: { crash: 1, switch: 0 } },
    breaks: /M2: m2 has its turn/
  },
  {
    name: "a lane that has given a turn is never due",
    want: effect => {
      if (effect.op === "db.insert" && effect.collection === "lanes")
        return { ...effect, doc: without(effect.doc as object, "dueAt") };
      if (!isUpdate(effect, "lanes")) return effect;
      const { change } = effect;
      const never = { $set: without(change.$set, "dueAt"), $min: without(change.$min, "dueAt") };
      return { ...effect, change: { ...change, ...never } };
    },
    model: { scenario: { emitters: inTurn, groups }, faults: { crash: 1, switch: 0 } },
    breaks: /M4|law 2: from here/
  },
  {
    name: "who comes late does not say so",
    want: effect =>
      isUpdate(effect, "lanes") && Object.keys(effect.change.$inc ?? {}).some(path => path.startsWith("late."))
        ? undone(effect)
        : effect,
    model: { scenario: { emitters: inTurn, groups }, faults: { crash: 1, switch: 0 } },
    breaks: /M4: m1 stands behind nobody|law 2: from here/
  }
];
