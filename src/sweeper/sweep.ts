import { randomUUID } from "node:crypto";
import { Batcher } from "../async/batcher";
import type { QueueDepth } from "../couriers/courier";
import { ReliableError, reasonOf } from "../errors";
import { backoffMs } from "../message/backoff";
import { isOpen, STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Message } from "../message/message";
import type { Turn } from "../stores/lane-store";
import type { ClaimQuery, Due, NamingRecord, RescheduleRecord } from "../stores/store-records";
import { askIntent } from "./ask-producer";
import { newCounts, type SweepCounts } from "./counts";
import { PagesAtWork } from "./pages-at-work";
import { planSweep, silentGroups } from "./plan";
import { sendAgain } from "./send-again";
import type { Settled, SweepParts } from "./sweep-parts";

export interface SweepScope {
  /** undefined = all. */
  buckets?: number[];
  /** Fence token, for the claim id. */
  token: string;
  /** Asked before each page: false = the lease is lost. */
  stillHeld(): boolean;
}

type Depths = Map<string, Promise<QueueDepth | undefined | "unseen">>;

interface Found {
  /** What was due and is not claimed yet. */
  due: Due[];
  /** The latest of the last search. */
  until?: Date | undefined;
}

interface Claimed {
  page: Message[];
  claim: string;
  /** All that was asked for: there may be a backlog. */
  full: boolean;
  /** The store found nothing that is due. */
  nothing: boolean;
}

/** Messages are looked for this many pages at a time. */
const PAGES_AHEAD = 10;
/**
 * Of payloads in one page, so that a page of large messages is read in time, and three pages have room. A single one may
 * be larger.
 */
const PAGE_BYTES = 5 * 1024 * 1024;

/** One pass over all due messages, page by page. The loop, the REPL action and the tests call it. */
export async function sweep(parts: SweepParts, scope: SweepScope): Promise<SweepCounts> {
  const counts = newCounts();
  await parts.subscriptions.refresh();
  const depths: Depths = new Map();
  // A message that is claimed and cannot be published would only be hidden until the claim runs out.
  const refusal = () => (parts.courier.ready ? (scope.stillHeld() ? undefined : "lease lost") : "broker not ready");
  const found: Found = { due: [] };
  const pages = new PagesAtWork((records, late) => reschedule(parts, records, counts, late));
  let ahead: Promise<Claimed> | undefined;
  try {
    for (;;) {
      const early = ahead !== undefined;
      counts.stopped = early
        ? undefined
        : refusal() || (counts.pages > 0 && parts.load.calmMs < OVERLOADED_MS ? "overloaded" : undefined);
      if (counts.stopped) return counts;
      const { page, claim, full, nothing } = await (ahead ?? claimNext(parts, scope, found));
      ahead = undefined;
      // A short page does not end the pass: another sweeper may have taken the rest of what was found, and there may be
      // more. A page that was claimed ahead does not end it either: some messages of the last page may be due again.
      if (nothing && !early) return counts;
      if (page.length) {
        counts.pages++;
        counts.claimed += page.length;
      }
      // In a backlog the store looks for the next page while the broker takes this one.
      if (full && !refusal() && parts.load.calmMs >= OVERLOADED_MS) {
        ahead = claimNext(parts, scope, found);
        // If this page fails, the claim of the next one runs out by itself.
        ahead.catch(() => undefined);
      }
      if (page.length) await pages.begun(workThrough(parts, page, claim, counts, { depths }));
      if (!ahead) await pages.end();
    }
  } finally {
    await pages.end();
  }
}

async function claimNext(parts: SweepParts, { token, buckets }: SweepScope, found: Found): Promise<Claimed> {
  const { pageSize } = parts;
  if (!found.due.length) await search(parts, found, buckets);
  const claim = `${parts.nodeID}#${token}#${randomUUID()}`;
  const nothing = !found.due.length;
  const wanted = found.due.splice(0, pageLength(found.due, pageSize));
  const page = await claimPage(parts, { claim, ids: wanted.map(({ id }) => id) });
  const full = page.length === wanted.length && (found.due.length > 0 || page.length === pageSize);
  return { page, claim, full, nothing };
}

/** From where the last search ended, then from the beginning: what was before it may be due again. */
async function search({ store, pageSize }: SweepParts, found: Found, buckets: number[] | undefined): Promise<void> {
  const limit = PAGES_AHEAD * pageSize;
  const from = found.until;
  found.due = await store.messages.due({ from, now: store.now(), limit, buckets });
  if (from && !found.due.length) found.due = await store.messages.due({ now: store.now(), limit, buckets });
  found.until = found.due.at(-1)?.dueAt;
}

function pageLength(found: Due[], pageSize: number): number {
  let bytes = 0;
  const over = found.slice(0, pageSize).findIndex((due, i) => (bytes += due.bytes) > PAGE_BYTES && i > 0);
  return over < 0 ? pageSize : over;
}

/** The claim lasts for `claimMs` from now, by the store's clock. */
export function claimPage(
  { store, claimMs, warnings, events }: SweepParts,
  query: Omit<ClaimQuery, "now" | "until" | "unreadable">
): Promise<Message[]> {
  const now = store.now();
  const unreadable = (error: Error) => {
    warnings.error("unreadable row", "", `Reliable: ${error.message} It is set aside.`);
    events.emit("error", error, "sweeper");
  };
  return store.messages.claim({ ...query, now, until: new Date(now.getTime() + claimMs), unreadable });
}

/** Since when an answer of the group could be known here. */
function later(takes: Date | "never" | undefined, calm: Date): Date | "never" {
  return takes === undefined || (takes !== "never" && takes < calm) ? calm : takes;
}

/** One page a pass while this node is overloaded: it has no time for more. */
const OVERLOADED_MS = 1000;

interface PageOptions {
  depths?: Depths;
  /** Their checks have come. */
  checked?: boolean;
  /** Of those that are in order, as it is known already. */
  turns?: Turn[];
}

/** Works on claimed messages and records the results at once. */
export async function sweepPage(
  parts: SweepParts,
  page: Message[],
  claim: string,
  counts: SweepCounts,
  options: PageOptions = {}
): Promise<void> {
  await reschedule(parts, await workThrough(parts, page, claim, counts, options), counts);
}

async function reschedule(
  { store }: SweepParts,
  records: RescheduleRecord[],
  counts: SweepCounts,
  late = false
): Promise<void> {
  if (records.length) counts.lost += records.length - (await store.messages.rescheduled(records, late));
}

/** Works on claimed messages: plans them all, then acts. Returns the records to write. */
export async function workThrough(
  parts: SweepParts,
  page: Message[],
  claim: string,
  counts: SweepCounts,
  { depths = new Map(), checked = false, turns: known = [] }: PageOptions
): Promise<RescheduleRecord[]> {
  const { subscriptions, courier } = parts;
  const now = parts.store.now();
  const look = (queue: string) => {
    const known = depths.get(queue) ?? courier.depth(queue).catch(error => unseen(parts, queue, error));
    depths.set(queue, known);
    return known;
  };
  const names = new Batcher<NamingRecord, boolean>({
    maxItems: parts.pageSize,
    write: async records => {
      const named = await parts.store.messages.named(records);
      return records.map(({ id }) => named.has(id));
    }
  });
  const claimed = await withoutAnswered(parts, await begun(parts, page, claim), claim);
  const named = await nameInLine(parts, claimed);
  const turns = await turnsOf(parts, claimed, known);
  // What this node was late with may be a receipt, and what it would send again would make it later.
  const calmSince = new Date(Math.max(0, now.getTime() - parts.load.calmMs));
  let asked: Promise<void> | undefined;
  const work = async (message: Message): Promise<Settled> => {
    if (message.status === STATUS.intended) return askIntent(parts, message, claim);
    if (named.has(message._id)) return anew(message, claim, now);
    const known = subscriptions.waitingFor(message.event, message.groups).filter(group => group !== ANY_GROUP);
    const seen = new Map<string, QueueDepth | undefined | "unseen">();
    for (const group of silentGroups(message, { now, known, checked })) {
      const queue = subscriptions.queueOf(group, message.event);
      seen.set(group, queue ? await look(queue) : undefined);
    }
    const since = (group: string) => subscriptions.knownSince(group, message.event);
    const takesSince = (group: string) => later(subscriptions.takesSince(group, message.event), calmSince);
    const depth = (group: string) => seen.get(group);
    const turn = turns.get(message._id);
    const world = { now, known, checked, depth, since, takesSince, turn: (group: string) => turn?.get(group) };
    const planned = () => planSweep(message, world);
    let plan = planned();
    if (plan.failures.length) {
      // A group that was paused a moment ago is not silent.
      await (asked ??= subscriptions.refresh());
      plan = planned();
    }
    const { renamed, unsent } = plan;
    if (renamed && !(await names.add({ id: message._id, claim, from: message.waiting, to: renamed, unsent })))
      return anew(message, claim, now);
    if (renamed && message.order) {
      // It stands in the lines of the new names from now on.
      const { key } = message.order;
      const left = message.waiting.filter(group => !renamed.includes(group)).map(group => ({ key, group }));
      parts.events.emit("left", left);
      return anew(message, claim, now);
    }
    return sendAgain(parts, plan, claim, counts);
  };
  // One message that fails must not stop its page: it keeps its claim and becomes due again.
  const settled = await Promise.all(
    claimed.map(message =>
      work(message).catch((error): Settled => {
        parts.warnings.error(
          "sweep",
          reasonOf(error),
          `Reliable: the sweep could not process message ${message._id}: ${reasonOf(error)}`
        );
        parts.events.emit("error", error, "sweeper");
        return { failures: [] };
      })
    )
  );
  tellMissing(parts, claimed, settled);
  await parts.progress.failed(settled.flatMap(({ failures }) => failures));
  await parts.progress.displaced(settled.flatMap(({ unroutable = [] }) => unroutable));
  return settled.flatMap(({ record }, i) => {
    const { retriedAt } = claimed[i] as Message;
    return record ? { ...record, ...(retriedAt && { retriedAt }) } : [];
  });
}

/**
 * From now on a scheduled message is under way. Of this and a cancel the store lets one win; if this process dies before
 * it publishes, the claim runs out, and the message is sent by the next pass.
 */
async function begun({ store }: SweepParts, page: Message[], claim: string): Promise<Message[]> {
  const scheduled = page.filter(({ status }) => status === STATUS.scheduled);
  if (!scheduled.length) return page;
  const ids = await store.messages.begun(
    scheduled.map(({ _id }) => _id),
    claim
  );
  for (const message of scheduled) if (ids.has(message._id)) message.status = STATUS.pending;
  return page.filter(({ status }) => status !== STATUS.scheduled);
}

/** So many of a key are named in one pass. */
const NAMED_PAGE = 200;

/**
 * Of messages that are in order and for which no group was known: all of their keys get the groups that are known now, in
 * their order, before any of them has a turn. Returns their ids.
 */
async function nameInLine({ store, subscriptions, events }: SweepParts, page: Message[]): Promise<Set<string>> {
  const keys = page.flatMap(({ order, waiting }) => (order && waiting.includes(ANY_GROUP) ? order.key : []));
  if (!keys.length) return new Set();
  const found = await store.lanes.unnamed(keys, NAMED_PAGE);
  const named = found
    .map(({ key, id, event, groups }) => ({ key, id, groups: subscriptions.waitingFor(event, groups) }))
    .filter(({ groups }) => !groups.includes(ANY_GROUP));
  const turns = named.length ? await store.lanes.name(named) : [];
  if (turns.length) events.emit("turns", turns);
  return new Set(named.map(({ id }) => id));
}

/** Of messages that are in order: in which groups it is their turn, and which one it is. */
async function turnsOf(
  { store, events }: SweepParts,
  page: Message[],
  known: Turn[]
): Promise<Map<string, Map<string, number>>> {
  const byId = new Map<string, Map<string, number>>();
  const told = new Set(known.map(({ id }) => id));
  const ordered = page.filter(({ _id, order, status }) => order && status !== STATUS.intended && !told.has(_id));
  const { turns, given } = ordered.length ? await store.lanes.turnsOf(ordered) : { turns: [], given: [] };
  for (const { id, group, number } of [...known, ...turns]) {
    const own = byId.get(id) ?? new Map<string, number>();
    byId.set(id, own.set(group, number));
  }
  const others = given.filter(({ id }) => !page.some(({ _id }) => _id === id));
  if (others.length) events.emit("turns", others);
  return byId;
}

/** An answer has changed `waiting` since the message was claimed: it is planned again soon. */
function anew(message: Message, claim: string, now: Date): Settled {
  return {
    record: { id: message._id, claim, dueAt: new Date(now.getTime() + backoffMs(message.backoff, 1)) },
    failures: []
  };
}

/**
 * A receipt was recorded, and its tracker died before it could resolve ANY_GROUP. This is done first. Otherwise the
 * message would be sent to the exchange and reach the group that has answered. It also closes a message that waits for
 * no group any more.
 */
async function withoutAnswered({ store, progress }: SweepParts, page: Message[], claim: string): Promise<Message[]> {
  const answered = page.filter(
    ({ status, waiting, receipts }) =>
      status !== STATUS.intended &&
      (!waiting.length || (waiting.includes(ANY_GROUP) && Object.keys(receipts).length > 0))
  );
  if (!answered.length) return page;
  await progress.resolveRecipients(answered);
  const rows = await store.messages.find(answered.map(({ _id }) => _id));
  return [
    ...page.filter(message => !answered.includes(message)),
    ...rows.filter(row => isOpen(row) && row.claim === claim)
  ];
}

/**
 * Queues that groups have announced and that do not exist (any more). Each is told once per page. The messages wait
 * until the group is back, or is forgotten.
 */
function tellMissing({ subscriptions, events }: SweepParts, page: Message[], settled: Settled[]): void {
  const told = new Set<string>();
  settled.forEach(({ missing = [] }, i) => {
    const { _id: id, event } = page[i] as Message;
    for (const group of missing) {
      const queue = subscriptions.queueOf(group, event);
      if (!queue || told.has(queue)) continue;
      told.add(queue);
      const text = `Message ${id} waits for group ${group}: there is no queue '${queue}', which is the group's for '${event}'.`;
      events.emit("error", new ReliableError("RELIABLE_QUEUE_MISSING", text, { group, queue, event, id }), "sweeper");
    }
  });
}

function unseen({ logger }: SweepParts, queue: string, error: unknown): "unseen" {
  logger.debug(`Reliable: could not look at ${queue}: ${reasonOf(error)}`);
  return "unseen";
}
