import type { Change, Filter } from "../../../src/stores/documents/collection";
import type { Effect } from "../stage";
import type { Mutation } from "../world";
import { type BulkModel, LATER } from "./world";

/** A law broken on purpose, the scenario in which it matters, and what the model must find. */
export interface BulkMutant extends Mutation {
  model: BulkModel;
  breaks: RegExp;
}

interface Update extends Effect {
  filter: Filter;
  change: Change;
}

const TWO = [
  { id: "m1", died: 2 },
  { id: "m2", died: 1 }
];

const retry = (faults: BulkModel["faults"], more: Partial<BulkModel["scenario"]> = {}): BulkModel => ({
  scenario: { act: "retry", letters: TWO, begun: true, ...more },
  faults
});

function isUpdate(effect: Effect, collection: string): effect is Update {
  return effect.op === "db.update" && effect.collection === collection;
}

function without<T extends object>(from: T, ...fields: string[]): T {
  return Object.fromEntries(Object.entries(from).filter(([field]) => !fields.includes(field))) as T;
}

/** What a worker wants of the messages, its filter changed. */
function filtered(effect: Effect, slot: string, change: (filter: Filter) => Filter): Effect {
  return slot.startsWith("worker") && effect.collection === "messages" && effect.filter
    ? { ...effect, filter: change(effect.filter as Filter) }
    : effect;
}

function setting({ change, ...rest }: Update, $set: Record<string, unknown>, ...unset: string[]): Effect {
  return { ...rest, change: { ...change, $set: { ...without(change.$set ?? {}, ...unset), ...$set } } };
}

const isProgress = (effect: Effect): effect is Update =>
  isUpdate(effect, "bulks") && effect.change.$set?.pages !== undefined;
const isPlan = (effect: Effect): effect is Update =>
  isUpdate(effect, "bulks") && effect.change.$set?.page !== undefined;

export const BULK_MUTANTS: BulkMutant[] = [
  {
    name: "the progress is written before the acts",
    eager: (effect, slot) => (slot.startsWith("worker") && isUpdate(effect as Effect, "messages") ? 1 : undefined),
    model: retry({ crash: 1 }),
    breaks: /is acted on, and is in no page/
  },
  {
    name: "what has died after the start is acted on",
    want: (effect, slot) => filtered(effect, slot, filter => without(filter, "at")),
    model: retry({ retry: 1, die: 1 }),
    breaks: /died after the start, and is acted on/
  },
  {
    name: "what has died at the very start is acted on",
    want: (effect, slot) =>
      filtered(effect, slot, ({ at, ...filter }) => ({
        ...filter,
        ...(at ? { at: without(at as object, "$lt") } : {})
      })),
    model: retry({ retry: 1, die: 1 }),
    breaks: /died after the start, and is acted on/
  },
  {
    name: "a retried message does not say by which bulk act",
    want: effect => (isUpdate(effect, "messages") ? setting(effect, {}, "bulk") : effect),
    model: retry({ die: 1 }, { clockBehind: true }),
    breaks: /once: m1 is acted on a second time/
  },
  {
    name: "a claim does not end",
    want: effect =>
      isUpdate(effect, "bulks") && effect.change.$set?.until ? setting(effect, { until: LATER }) : effect,
    model: retry({ crash: 1 }),
    breaks: /law 2: left behind as running/
  },
  {
    name: "the progress does not ask whether the claim holds",
    want: effect => (isProgress(effect) ? { ...effect, filter: without(effect.filter, "claim") } : effect),
    model: retry({ slow: 1 }, { workers: 2 }),
    breaks: /2 were done, and then 1/
  },
  {
    name: "a page does not ask whether a human holds it up",
    want: effect => (isPlan(effect) ? { ...effect, filter: without(effect.filter, "state") } : effect),
    model: retry({ stop: 1 }),
    breaks: /is acted on though a human held it up before/
  },
  {
    name: "a stop ends it at once, whatever is under way",
    want: (effect, slot) =>
      slot === "ben" && isUpdate(effect, "bulks") ? setting(effect, { state: "stopped" }) : effect,
    model: retry({ stop: 1 }),
    breaks: /audit: it is stopped, and its record says begun/
  },
  {
    name: "the ids of a page are not written before its acts",
    want: effect => (isPlan(effect) ? setting(effect, {}, "page") : effect),
    model: retry({}),
    breaks: /is acted on, and is in no page/
  },
  {
    name: "what a dead process has done is counted as overtaken",
    want: (effect, slot) =>
      slot.startsWith("worker") && (effect as { page?: { fields?: string[] } }).page?.fields?.includes("notes")
        ? { ...effect, filter: { _id: "nobody" } }
        : effect,
    model: retry({ crash: 1 }),
    breaks: /1 are told as done, and 2 are/
  },
  {
    name: "a page begins behind the instant of the last one",
    want: (effect, slot) =>
      filtered(effect, slot, filter => {
        const { $gte, ...at } = (filter.at ?? {}) as { $gte?: Date };
        return effect.op === "db.find" && $gte ? { ...filter, at: { ...at, $gt: $gte } } : filter;
      }),
    model: retry({}, { letters: [{ id: "m1" }, { id: "m2" }] }),
    breaks: /lost: m\d matched, and nobody has acted on it/
  },
  {
    name: "its end is not written before its audit record",
    want: effect => (isUpdate(effect, "bulks") ? setting(effect, {}, "ending") : effect),
    model: retry({ stop: 1, crash: 1 }, { letters: [{ id: "m1" }] }),
    breaks: /audit: it is stopped, and its record says done/
  },
  {
    name: "what is there stays told as discarded",
    want: effect =>
      effect.op === "db.remove" && effect.collection === "discarded"
        ? { ...effect, filter: { _id: "nobody" } }
        : effect,
    model: { scenario: { act: "discard", letters: [{ id: "m1" }], begun: true }, faults: { resolve: 1, crash: 1 } },
    breaks: /m1 is there, and told as discarded/
  },
  {
    name: "a message is deleted before its record",
    eager: (effect, slot) =>
      slot.startsWith("worker") && effect.op === "db.insert" && (effect as Effect).collection === "discarded"
        ? true
        : undefined,
    model: { scenario: { act: "discard", letters: [{ id: "m1" }], begun: true }, faults: {} },
    breaks: /law 2: m1 is discarded, and nothing tells by whom/
  },
  {
    name: "an act does not ask whether the message is dead",
    want: (effect, slot) =>
      isUpdate(effect, "messages") ? filtered(effect, slot, filter => without(filter, "status", "failed")) : effect,
    model: retry({ retry: 1 }),
    breaks: /m\d is acted on for stock, and has failed in/
  }
];
