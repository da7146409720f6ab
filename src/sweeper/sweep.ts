import { randomUUID } from "node:crypto";
import { Batcher } from "../async/batcher";
import type { QueueDepth } from "../couriers/courier";
import { ReliableError, reasonOf } from "../errors";
import { currentAttempt, judgeFailure } from "../message/attempts";
import { backoffMs } from "../message/backoff";
import { STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Message } from "../message/message";
import type { ClaimQuery, FailedRecord, NamingRecord, RescheduleRecord } from "../stores/store";
import { delayOf, LOST_CHECK_MARGIN_MS } from "../wire/check";
import { askIntent, type Published, resendByProducer, type StepResult } from "./ask-producer";
import type { Settled, SweepParts } from "./parts";
import { planSweep, reachesAllAtOnce, type SweepPlan, silentGroups } from "./plan";

export interface SweepScope {
  /** undefined = all. */
  buckets?: number[];
  /** Fence token, for the claim id. */
  token: string;
  /** Asked before each page: false = the lease is gone. */
  stillHeld(): boolean;
}

export interface SweepCounts {
  pages: number;
  /** Due messages taken. */
  claimed: number;
  /** Publishes by outcome. */
  confirmed: number;
  returned: number;
  nacked: number;
  unknown: number;
  /** Groups left alone: backlog in their queue, or nobody home. */
  waiting: number;
  /** Attempts that ended in silence. */
  silent: number;
  /**
   * Messages that were no longer this sweeper's when it wrote down what it did: handled meanwhile, or taken over by
   * another one.
   */
  lost: number;
  /** Why the pass ended early. */
  stopped?: "broker not ready" | "lease lost";
}

export function newCounts(): SweepCounts {
  return { pages: 0, claimed: 0, confirmed: 0, returned: 0, nacked: 0, unknown: 0, waiting: 0, silent: 0, lost: 0 };
}

type Depths = Map<string, Promise<QueueDepth | undefined | "unseen">>;

interface Claimed {
  page: Message[];
  claim: string;
  /** Nothing was due when it was looked for. */
  nothing: boolean;
}

/** Looked for at once. */
const PAGES_AHEAD = 10;

/** One pass over what is due, page by page. The loop, the REPL action and the tests all call this. */
export async function sweep(parts: SweepParts, scope: SweepScope): Promise<SweepCounts> {
  const counts = newCounts();
  await parts.subscriptions.refresh();
  const depths: Depths = new Map();
  // Claiming what cannot be published would only hide it until the claim runs out.
  const refusal = () => (parts.courier.ready ? (scope.stillHeld() ? undefined : "lease lost") : "broker not ready");
  const found: string[] = [];
  let ahead: Promise<Claimed> | undefined;
  let owed: RescheduleRecord[] = [];
  try {
    for (;;) {
      const early = ahead !== undefined;
      counts.stopped = early ? undefined : refusal();
      if (counts.stopped) return counts;
      const { page, claim, nothing } = await (ahead ?? claimNext(parts, scope, found));
      ahead = undefined;
      // A short page is no end: another sweeper may have taken the rest of what was found, and there may be more. Nor
      // is one that was claimed ahead: some of the last page may be due again.
      if (nothing && !early) return counts;
      if (!page.length) continue;
      counts.pages++;
      counts.claimed += page.length;
      // A backlog: the store looks for the next page while the broker takes this one.
      if (page.length === parts.pageSize && !refusal()) {
        ahead = claimNext(parts, scope, found);
        // Should this page fail, nobody looks at it: its claim runs out.
        ahead.catch(() => undefined);
      }
      const records = await workThrough(parts, page, claim, counts, { depths });
      // In a backlog they are written a page later: most of the messages are consumed by then and need no record.
      await reschedule(parts, ahead ? owed : [...owed, ...records], counts);
      owed = ahead ? records : [];
    }
  } finally {
    await reschedule(parts, owed, counts);
  }
}

/** `found`: ids that were due and are not claimed yet. */
async function claimNext(parts: SweepParts, { token, buckets }: SweepScope, found: string[]): Promise<Claimed> {
  const { store, nodeID, pageSize } = parts;
  if (!found.length) found.push(...(await store.due({ now: store.now(), limit: PAGES_AHEAD * pageSize, buckets })));
  const claim = `${nodeID}#${token}#${randomUUID()}`;
  const nothing = !found.length;
  return { page: await claimPage(parts, { claim, ids: found.splice(0, pageSize) }), claim, nothing };
}

/** For `claimMs` from now, by the store's clock. */
export function claimPage(
  { store, claimMs }: SweepParts,
  query: Omit<ClaimQuery, "now" | "until">
): Promise<Message[]> {
  const now = store.now();
  return store.claim({ ...query, now, until: new Date(now.getTime() + claimMs) });
}

interface PageOptions {
  depths?: Depths;
  /** Their checks have come. */
  checked?: boolean;
}

/** Works through claimed messages and writes down at once what came of it. */
export async function sweepPage(
  parts: SweepParts,
  page: Message[],
  claim: string,
  counts: SweepCounts,
  options: PageOptions = {}
): Promise<void> {
  await reschedule(parts, await workThrough(parts, page, claim, counts, options), counts);
}

async function reschedule({ store }: SweepParts, records: RescheduleRecord[], counts: SweepCounts): Promise<void> {
  if (records.length) counts.lost += records.length - (await store.rescheduled(records));
}

/** Works through claimed messages: plans them all, then acts. Returns what is to be written about them. */
async function workThrough(
  parts: SweepParts,
  page: Message[],
  claim: string,
  counts: SweepCounts,
  { depths = new Map(), checked = false }: PageOptions
): Promise<RescheduleRecord[]> {
  const { subscriptions, courier } = parts;
  const now = parts.store.now();
  const look = (queue: string) => {
    const known =
      depths.get(queue) ??
      courier
        .depth(queue)
        .catch(
          (error): "unseen" => (
            parts.logger.debug(`Reliable: could not look at ${queue}: ${reasonOf(error)}`), "unseen"
          )
        );
    depths.set(queue, known);
    return known;
  };
  const names = new Batcher<NamingRecord, boolean>({
    maxItems: parts.pageSize,
    write: async records => {
      const named = await parts.store.named(records);
      return records.map(({ id }) => named.has(id));
    }
  });
  const claimed = await withoutAnswered(parts, page, claim);
  const work = async (message: Message): Promise<Settled> => {
    if (message.status === STATUS.intended) return askIntent(parts, message, claim);
    const known = subscriptions.waitingFor(message.event, message.groups).filter(group => group !== ANY_GROUP);
    const seen = new Map<string, QueueDepth | undefined | "unseen">();
    for (const group of silentGroups(message, { now, known, checked })) {
      const queue = subscriptions.queueOf(group, message.event);
      seen.set(group, queue ? await look(queue) : undefined);
    }
    const plan = planSweep(message, { now, known, checked, depth: group => seen.get(group) });
    const { renamed } = plan;
    if (renamed && !(await names.add({ id: message._id, claim, from: message.waiting, to: renamed })))
      return anew(plan, claim, now);
    return act(parts, plan, claim, counts);
  };
  // One message that cannot be worked through must not take its page with it: it keeps its claim and comes due again.
  const settled = await Promise.all(
    claimed.map(message =>
      work(message).catch((error): Settled => {
        parts.logger.error(`Reliable: the sweep could not deal with message ${message._id}: ${reasonOf(error)}`);
        parts.onError(error, "sweeper");
        return { failures: [] };
      })
    )
  );
  const failures = settled.flatMap(({ failures }) => failures);
  tellMissing(parts, claimed, failures);
  await parts.recordFailures(failures);
  return settled.flatMap(({ record }) => record ?? []);
}

/** An answer has changed who is waited for since the message was claimed: planned anew soon. */
function anew({ message }: SweepPlan, claim: string, now: Date): Settled {
  return {
    record: { id: message._id, claim, dueAt: new Date(now.getTime() + backoffMs(message.backoff, 1)) },
    failures: []
  };
}

/**
 * A receipt may be recorded and its tracker dead before it could say who else ANY_GROUP is. That comes first: sent to
 * whoever is there, the message would reach again who has answered. Nor may it stay open with nobody left to wait for.
 */
async function withoutAnswered(
  { store, resolveRecipients: whoever }: SweepParts,
  page: Message[],
  claim: string
): Promise<Message[]> {
  const answered = page.filter(
    ({ status, waiting, receipts }) =>
      status !== STATUS.intended &&
      (!waiting.length || (waiting.includes(ANY_GROUP) && Object.keys(receipts).length > 0))
  );
  if (!answered.length) return page;
  await whoever(answered);
  const rows = await store.find(answered.map(({ _id }) => _id));
  return [
    ...page.filter(message => !answered.includes(message)),
    ...rows.filter(row => row.open && row.claim === claim)
  ];
}

/** Publishes a plan's steps, or has the producer publish them where it keeps the payload. */
async function publish(parts: SweepParts, plan: SweepPlan): Promise<Published> {
  const { message, steps } = plan;
  if (!steps.length) return { results: [] };
  if (message.strategy === "callback") return resendByProducer(parts, message, steps);
  if (reachesAllAtOnce(plan))
    return parts.publisher.toAll(message, 1).then(result => ({ results: steps.map(() => result) }));
  return { results: await parts.publisher.toGroups(message, steps) };
}

async function act(parts: SweepParts, plan: SweepPlan, claim: string, counts: SweepCounts): Promise<Settled> {
  const { message, steps, waits } = plan;
  const { results, round, unreachableSince, pauseMs = backoffMs(message.backoff, 1) } = await publish(parts, plan);
  const at = parts.store.now();
  const answerBy = new Date(
    at.getTime() +
      (message.strategy === "callback" ? delayOf(message, round ?? message.round ?? 1) : message.receiptTimeoutMs)
  );
  const failures = [...plan.failures];
  const next = new Map(waits);
  const attempts: Record<string, number> = {};
  steps.forEach(({ group, attempt }, i) => {
    const result = results[i] as StepResult;
    if ("error" in result) {
      failures.push(
        judgeFailure(message, group, attempt, "source", result.error, { now: at, retryable: result.retryable })
      );
      return;
    }
    const { outcome, reason } = result;
    counts[outcome]++;
    parts.metrics.outcome(message.event, outcome);
    if (outcome === "confirmed") {
      attempts[group] = attempt;
      next.set(group, answerBy);
    } else if (outcome === "returned") {
      failures.push(
        judgeFailure(
          message,
          group,
          attempt,
          "unroutable",
          { name: "Unroutable", message: reason ?? "no queue took it", code: "NO_ROUTE" },
          { now: at }
        )
      );
    } else {
      next.set(group, new Date(at.getTime() + pauseMs));
    }
  });
  // What was followed by its next attempt at once is due when that one is: with an earlier date another sweep would
  // take it before this one has written down what it did.
  failures.forEach((failure, i) => {
    const nextAt = failure.nextAt && next.get(failure.group);
    if (nextAt) failures[i] = { ...failure, nextAt };
  });
  counts.waiting += waits.size;
  counts.silent += plan.failures.length;
  // The failures write their own schedule.
  const instants = [
    ...next.values(),
    ...failures.flatMap(({ group, nextAt }) => (nextAt && !next.has(group) ? nextAt : []))
  ].map(date => date.getTime());
  const confirmed = Object.keys(attempts).length > 0;
  // A round's check comes by itself; should it be lost, the row is due a little later.
  const margin = confirmed && message.strategy === "callback" ? LOST_CHECK_MARGIN_MS : 0;
  const tried = new Map(steps.map(({ group, attempt }) => [group, attempt]));
  const record: RescheduleRecord = {
    id: message._id,
    claim,
    // With nothing left to wait for it is dead by now, and this record changes nothing.
    dueAt: new Date((instants.length ? Math.min(...instants) : answerBy.getTime()) + margin),
    next: Object.fromEntries(next),
    about: Object.fromEntries(
      [...next.keys()].map(group => [group, Math.max(currentAttempt(message, group), tried.get(group) ?? 0)])
    )
  };
  if (confirmed)
    Object.assign(record, { status: "published", attempts, ...(message.publishedAt ? {} : { publishedAt: at }) });
  else if (steps.length && !failures.length) record.status = "pending";
  if (round) record.round = round;
  if (unreachableSince !== undefined) record.unreachableSince = unreachableSince;
  return { record, failures };
}

/**
 * Queues that groups have announced and that are not there (any more): each once for all of a page. What comes for the
 * group meanwhile ends as `dead`.
 */
function tellMissing({ subscriptions, onError }: SweepParts, page: Message[], failures: FailedRecord[]): void {
  const events = new Map(page.map(({ _id, event }) => [_id, event]));
  const told = new Set<string>();
  for (const { id, group, failure } of failures) {
    const event = events.get(id) as string;
    const queue = failure.error.message.includes("NO_ROUTE") && subscriptions.queueOf(group, event);
    if (!queue || told.has(queue)) continue;
    told.add(queue);
    onError(
      new ReliableError(
        "RELIABLE_QUEUE_MISSING",
        `Message ${id} could not be sent to group ${group}: there is no queue '${queue}', which is the group's for '${event}'.`,
        { group, queue, event, id }
      ),
      "sweeper"
    );
  }
}
