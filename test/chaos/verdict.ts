import { type Journal, keyOf } from "./journal";
import { outOfOrder } from "./order";

/** Which groups owe a receipt for an event. `tx` is counted by the effects its transactions left. */
export const GROUPS: Record<string, string[]> = {
  "order.plain": ["off"],
  "order.kept": ["on"],
  "order.shared": ["off", "on"],
  "order.ledger": ["tx"]
};

/** What the store and its clients say at the end of a run. */
export interface Ending {
  /** Status by id. */
  statuses: Map<string, string>;
  /** Ids of the effects of the transactional group, one for each that was committed. */
  effects: string[];
  /** Parked messages. */
  parked: number;
}

export interface Expected {
  /** When the fault was over, by the journals' clock. */
  healedAt: number;
  injectedAt: number;
  parked: number;
}

export interface Verdict {
  attempted: number;
  promised: number;
  /** Emits that ended in "not known", and those in "nothing stored". */
  unknown: number;
  refused: number;
  cancelled: number;
  /** Distinct pairs of group and message. */
  handled: number;
  lost: string[];
  /** Refused as not stored, and handled all the same. */
  undead: string[];
  /** Deliveries beyond the first of a group and message. */
  redelivered: number;
  /** Handled again although the inbox had it. */
  twice: string[];
  /** Handled again because the fault fell between the handler and its record. */
  between: number;
  /** Effects of transactions that are there twice. */
  doubled: string[];
  /** Of one key: handled in another order than emitted, and beside one another. */
  order: { broken: string[]; beside: string[] };
  dead: number;
  /** Dead that were not made to die, and those made to die that are not dead. */
  wrong: string[];
  parked: number;
  strays: string[];
  errors: string[];
  /** From the end of the fault until everything emitted before that was handled. */
  recoverMs: number;
  /** The longest time in which nothing was handled, from the beginning of the fault on. */
  pauseMs: number;
}

/** Compares the sets: what was attempted, promised, handled by each group, and what the store says. */
export function judge(journal: Journal, ending: Ending, expected: Expected): Verdict {
  const { attempted, promised, handled, recorded, deliveries } = journal;
  const effects = new Map<string, number>();
  for (const id of ending.effects) effects.set(id, (effects.get(id) ?? 0) + 1);
  const has = (group: string, id: string) => (group === "tx" ? effects.has(id) : handled.has(keyOf(group, id)));

  const lost: string[] = [];
  const wrong: string[] = [];
  const undead: string[] = [];
  const strays: string[] = [];
  let pairs = 0;
  let recovered = expected.healedAt;
  for (const [id, { event, poison, at }] of attempted) {
    const groups = GROUPS[event];
    const done = groups.filter(group => has(group, id));
    pairs += done.length;
    const status = ending.statuses.get(id);
    if (status === "cancelled" || journal.cancelled.has(id)) {
      // A call-off whose answer was lost is one, too.
      if (status !== "cancelled" || done.length)
        wrong.push(
          `${id} (${event}) was called off, is ${status ?? "not in the store"}, handled by ${done.join() || "nobody"}`
        );
    } else if (promised.has(id)) {
      if (!poison && done.length < groups.length)
        lost.push(`${id} (${event}, ${status ?? "no row"}; ${done.join() || "nobody"} of ${groups.join()})`);
      if (status !== (poison ? "dead" : "consumed"))
        wrong.push(`${id} (${event}) is ${status ?? "not in the store"}${poison ? ", made to die" : ""}`);
    } else {
      if (journal.refused.has(id) && !journal.unknown.has(id) && (done.length || status))
        undead.push(`${id} (${event}) was refused: ${journal.refused.get(id)}; ${status ?? "handled"}`);
      // Nobody was promised anything, but what has begun must come to an end.
      if (status && status !== (poison ? "dead" : "consumed"))
        wrong.push(`${id} (${event}), not promised, is ${status}`);
      if (status && !poison && done.length < groups.length)
        lost.push(`${id} (${event}, ${status}, not promised; ${done.join() || "nobody"} of ${groups.join()})`);
    }
    if (at < expected.healedAt)
      for (const group of done) recovered = Math.max(recovered, handled.get(keyOf(group, id))?.[0]?.at ?? 0);
  }
  for (const id of ending.statuses.keys()) if (!attempted.has(id)) strays.push(id);

  const twice: string[] = [];
  let between = 0;
  let again = 0;
  for (const [key, handlings] of handled) {
    const group = key.split(" ", 1)[0];
    if (group === "off") again += handlings.length - 1;
    if (group !== "on" || handlings.length < 2) continue;
    // Whoever began when the record was there should have seen it.
    const record = recorded.get(key) ?? Infinity;
    const blind = handlings.filter(({ since }) => since <= record).length;
    if (blind < handlings.length) twice.push(key);
    between += blind - 1;
  }
  for (const times of deliveries.values()) again += times - 1;

  return {
    attempted: attempted.size,
    promised: promised.size,
    unknown: journal.unknown.size,
    refused: journal.refused.size,
    cancelled: [...ending.statuses.values()].filter(status => status === "cancelled").length,
    handled: pairs,
    lost,
    undead,
    redelivered: again,
    twice,
    between,
    order: outOfOrder(journal),
    doubled: [...effects].filter(([, times]) => times > 1).map(([id]) => id),
    dead: [...ending.statuses.values()].filter(status => status === "dead").length,
    wrong,
    parked: ending.parked,
    strays,
    errors: journal.errors,
    recoverMs: Math.round((recovered - expected.healedAt) / 1000),
    pauseMs: longestPause(handled, attempted, expected.injectedAt)
  };
}

/** What is wrong with a run, in words; empty when nothing is. */
export function complaints(verdict: Verdict, expected: Expected): string[] {
  const some = (what: string, ids: string[]) =>
    ids.length ? [`${ids.length} ${what}: ${ids.slice(0, 5).join("; ")}`] : [];
  return [
    ...some("lost", verdict.lost),
    ...some("refused, but there", verdict.undead),
    ...some("handled twice despite the inbox", verdict.twice),
    ...some("effects of transactions twice", verdict.doubled),
    ...some("out of order", verdict.order.broken),
    ...some("beside another one of its key", verdict.order.beside),
    ...some("with another status than they should have", verdict.wrong),
    ...some("in the store that nobody emitted", verdict.strays),
    ...some("unhandled errors", verdict.errors),
    ...(verdict.parked === expected.parked ? [] : [`${verdict.parked} parked, ${expected.parked} expected`]),
    ...(verdict.promised ? [] : ["nothing was promised"])
  ];
}

/** While something was emitted: what comes after the last emit is the drain's. */
function longestPause(handled: Journal["handled"], attempted: Journal["attempted"], since: number): number {
  // Of a million: too many for the arguments of a call.
  const until = [...attempted.values()].reduce((latest, { at }) => Math.max(latest, at), 0);
  const instants = [...handled.values()]
    .map(([first]) => first?.at ?? 0)
    .filter(at => at >= since && at <= until)
    .toSorted((a, b) => a - b);
  let longest = 0;
  for (const [i, at] of instants.entries()) longest = Math.max(longest, at - (instants[i - 1] ?? since));
  return Math.round(longest / 1000);
}
