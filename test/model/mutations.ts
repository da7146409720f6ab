import type { Filter } from "../../src/stores/documents/collection";
import { RECEIPT_TYPE } from "../../src/wire/receipt";
import { EVENT, QUEUES } from "./parts";
import type { Effect } from "./stage";
import type { Model, Mutation } from "./world";

/**
 * A law broken on purpose at a seam of the product's code, the scenario in which it matters, and what the model must
 * find.
 */
export interface Mutant extends Mutation {
  model: Model;
  breaks: RegExp;
}

interface Update extends Effect {
  filter: Filter;
  change: { $set?: Record<string, unknown>; $inc?: Record<string, number> };
}

function isUpdate(effect: Effect): effect is Update {
  return effect.op === "db.update" && effect.collection === "messages";
}

function without({ filter, ...rest }: Update, ...fields: string[]): Effect {
  return { ...rest, filter: Object.fromEntries(Object.entries(filter).filter(([field]) => !fields.includes(field))) };
}

const isReceipt = ({ op, type }: Effect) => op === "publish" && type === RECEIPT_TYPE;
const outbox = (faults: Model["faults"], more: Partial<Model> = {}): Model => ({
  scenario: { strategy: "outbox", groups: 1, maxAttempts: 2 },
  faults,
  ...more
});
const callback = (faults: Model["faults"], more: Partial<Model["scenario"]> = {}): Model => ({
  scenario: { strategy: "callback", groups: 1, maxAttempts: 2, ...more },
  faults
});

const OUTAGE = { strategy: "outbox", groups: 1, maxAttempts: 2, breaker: true } as const;

export const MUTANTS: Mutant[] = [
  {
    name: "a consumer acks before its receipt is confirmed",
    eager: effect => (isReceipt(effect as Effect) ? { outcome: "confirmed" } : undefined),
    model: outbox({}),
    breaks: /law 3: the delivery of stock was acked before/
  },
  {
    name: "a consumer acks before its receipt is in the row",
    eager: (effect, slot) => (slot === "stock" && isUpdate(effect as Effect) ? 1 : undefined),
    model: { ...outbox({}), scenario: { strategy: "outbox", groups: 1, maxAttempts: 2, rows: true } },
    breaks: /law 3: the delivery of stock was acked before/
  },
  {
    name: "a consumer that has written its receipt into the row looks for copies in the inbox alone",
    want: effect =>
      effect.op === "db.find" && effect.collection === "messages" && JSON.stringify(effect.filter).includes(".receipt")
        ? { ...effect, filter: { _id: "nobody" } }
        : effect,
    model: { ...outbox({ duplicate: 1 }), scenario: { strategy: "outbox", groups: 1, maxAttempts: 2, rows: true } },
    breaks: /law 3: stock handles again/
  },
  {
    name: "consumed does not ask whether anybody is waiting",
    want: effect =>
      isUpdate(effect) && effect.change.$set?.status === "consumed" ? without(effect, "waiting", "waiting.0") : effect,
    model: { ...outbox({}), scenario: { strategy: "outbox", groups: 2, maxAttempts: 2 } },
    breaks: /law 3: consumed before/
  },
  {
    name: "a receipt is acked before it is in the store",
    eager: (effect, slot) => (slot.startsWith("tracker") && isUpdate(effect as Effect) ? 1 : undefined),
    model: outbox({}),
    breaks: /law 2: a receipt of stock was acked and is nowhere/
  },
  {
    name: "the store answers an emit before it has written",
    eager: (effect, slot) => (slot === "emit" && effect.op === "db.insert" ? [true] : undefined),
    model: outbox({ crash: 1 }),
    breaks: /law 2: it disappears/
  },
  {
    name: "a lost publish counts as confirmed",
    want: effect => (effect.op === "publish" ? { ...effect, trusted: true } : effect),
    model: callback({ lose: 2 }),
    breaks: /law 2: it disappears/
  },
  {
    name: "an update does not ask for the status it expects",
    want: effect => (isUpdate(effect) ? without(effect, "status") : effect),
    model: outbox({ crash: 1 }),
    breaks: /law 6: .* is no legal transition/
  },
  {
    name: "a claim takes what is claimed",
    want: effect => (isUpdate(effect) && effect.change.$set?.claim ? without(effect, "dueAt") : effect),
    model: outbox({ fail: 1 }, { sweepers: 2 }),
    breaks: /law 7: attempt 2 was sent to stock twice/
  },
  {
    name: "a failure is counted as often as it is told",
    want: effect =>
      isUpdate(effect) && JSON.stringify(effect.filter).includes('.spent"') ? without(effect, "$or") : effect,
    model: outbox({ fail: 1, duplicate: 1 }),
    breaks: /law 5: a failure was counted twice/
  },
  {
    name: "a failure that is excused counts",
    want: effect =>
      isUpdate(effect) && effect.change.$inc
        ? { ...effect, change: { ...effect.change, $inc: { "groups.mail.base": 1 } } }
        : effect,
    model: { ...outbox({ fail: 1, outage: 1 }), scenario: OUTAGE },
    breaks: /law 5: an outage has killed it: only 1 of 2/
  },
  {
    name: "what the breaker gives back stays counted",
    want: effect =>
      isUpdate(effect) && effect.change.$set && "groups.stock.base" in effect.change.$set
        ? { ...effect, filter: { _id: "nobody" } }
        : effect,
    model: { ...outbox({ outage: 1 }), scenario: { ...OUTAGE, maxAttempts: 1 } },
    breaks: /law 5: an outage has killed it: only 0 of 1/
  },
  {
    name: "a sweep does not know of pauses",
    eager: effect => (effect.op === "pauses" ? null : undefined),
    model: { ...outbox({ pause: 1 }), scenario: { strategy: "outbox", groups: 1, maxAttempts: 1, pauses: true } },
    breaks: /law 5: a pause has killed it: only 0 of 1/
  },
  {
    name: "a resend goes to all groups",
    want: effect => (effect.op === "publish" && effect.type === EVENT ? { ...effect, to: { event: EVENT } } : effect),
    model: { ...outbox({ fail: 1 }), scenario: { strategy: "outbox", groups: 2, maxAttempts: 2 } },
    breaks: /law 9: sent to .* again/
  },
  {
    name: "the question about an intent writes no fence",
    want: effect =>
      effect.op === "db.insert" && effect.collection === "barriers" ? { ...effect, skipped: true } : effect,
    model: callback({ slow: 1 }, { intent: "barrier" }),
    breaks: /intent: withdrawn, though its business write is committed|committed after it was withdrawn/
  },
  {
    name: "the check of an intent does not say that it is one",
    want: effect =>
      effect.op === "publish" && (effect.to as { queue?: string }).queue === QUEUES.checks
        ? { ...effect, headers: { ...(effect.headers as object), "x-reliable-intent": undefined } }
        : effect,
    model: callback({ crash: 1 }, { intent: "barrier" }),
    breaks: /intent: announced, though its business write is not committed/
  },
  {
    name: "a failed commit withdraws its intent unasked",
    want: effect =>
      effect.op === "db.insert" && effect.collection === "barriers" ? { ...effect, skipped: true } : effect,
    model: { ...outbox({ commit: 1 }), scenario: { strategy: "outbox", groups: 1, maxAttempts: 2, intent: "barrier" } },
    breaks: /intent: withdrawn, though its business write is committed/
  },
  {
    name: "a group that fails for good takes the message from the others",
    want: effect =>
      isUpdate(effect) && effect.change.$set?.status === "dead"
        ? { ...effect, change: { ...effect.change, $unset: { dueAt: true } } }
        : effect,
    model: {
      ...outbox({ fail: 1, purge: 1 }, { atOnce: 1 }),
      scenario: { strategy: "outbox", groups: 2, maxAttempts: 1 }
    },
    breaks: /law 9: nobody sends it to .* any more/
  },
  {
    name: "a cancel does not ask whether it is scheduled",
    want: effect =>
      isUpdate(effect as Effect) && (effect as unknown as Update).change.$set?.status === "cancelled"
        ? without(effect as unknown as Update, "status")
        : effect,
    model: { ...outbox({ cancel: 1 }), scenario: { strategy: "outbox", groups: 1, maxAttempts: 2, later: true } },
    breaks: /called off|no legal transition/
  },
  {
    name: "a sweep sends what it has claimed, though it was called off since",
    want: effect =>
      effect.op === "db.update" && (effect as unknown as Update).change?.$set?.status === "pending"
        ? ({ ...effect, filter: { _id: "m" } } as typeof effect)
        : effect,
    model: { ...outbox({ cancel: 1 }), scenario: { strategy: "outbox", groups: 1, maxAttempts: 2, later: true } },
    breaks: /called off|no legal transition/
  },
  {
    name: "a retry does not ask whether the sweep is still at it",
    want: effect =>
      isUpdate(effect) && effect.filter.claim && effect.change.$set?.status === "pending"
        ? without(effect, "claim", "dueAt")
        : effect,
    model: { ...outbox({ fail: 1, crash: 1, retry: 1 }), scenario: { strategy: "outbox", groups: 1, maxAttempts: 1 } },
    breaks: /law 2: left behind as pending/
  }
];
