import type { Courier } from "../couriers/courier";
import { ReliableError, ReliableRetryableError } from "../errors";
import { STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Note } from "../message/message";
import { baseGroup, bindingKey, consumerGroup, isWildcard, namesGroup } from "../message/pattern";
import { pauseText } from "../message/paused";
import type { Pause, Subscription } from "../message/records";
import { hasProcess } from "../outbound/control-messages";
import type { Progress } from "../progress/progress";
import type { Store } from "../stores/store";
import type { ReleaseScope } from "../stores/store-records";
import { eventQueue } from "../wire/names";
import type { Actor } from "./actor";
import { audited, needNote, recordOf } from "./audit";
import { endPauses, livesPaused, type PausingParts } from "./pause";

export interface ForgetParams {
  /** A group, with its wildcard handlers; or one of them, as `<group>:<pattern>`. */
  group: string;
  /** Only its handler of this event or pattern. */
  pattern?: string;
  /** Why. Required, but for a `dryRun`. */
  note?: string;
  /** Who, where the call's meta names no user. */
  by?: string;
  dryRun?: boolean;
  /** Delete its queues although they hold messages. */
  force?: boolean;
}

/** A handler of the group: its pattern and its queue. */
export interface ForgottenQueue {
  pattern: string;
  queue: string;
  /** Messages that are still in the queue, which is unbound; 0 = it is deleted, or never was there. */
  ready: number;
}

export interface Forgotten {
  group: string;
  /** Messages that do not wait for it any more; with `dryRun`, that would not. */
  messages: number;
  queues: ForgottenQueue[];
  /** Its handlers that have consumers, or 0 and a process that takes nothing now: they stay, whatever is asked. */
  living: { pattern: string; queue: string; consumers: number }[];
  dryRun: boolean;
}

interface ForgetParts extends PausingParts {
  progress: Progress;
  namespace: string;
}

/**
 * Releases a group, or one of its patterns, that is gone for good. Nothing that has consumers is touched.
 *
 *   process dies before the subscriptions are deleted   its queue is unbound, and its consumers bind it again, or the
 *                                                       act is repeated
 *   … before all messages are released                  repeating the act releases the rest: it goes by the messages
 *   … before the queue is deleted                       an unbound queue stays; nothing is sent to it any more
 *   in all three                                        its audit record stays `begun`, and a repeat goes on under it
 */
export async function forget(parts: ForgetParts, params: ForgetParams, actor: Actor): Promise<Forgotten> {
  const { store, courier, progress } = parts;
  const { group, pattern, note: why = "", dryRun = false, force = false } = params;
  if (group === ANY_GROUP)
    throw new ReliableError("RELIABLE_BAD_OPTION", `'${ANY_GROUP}' is no group that could be forgotten.`, {
      option: "group"
    });
  if (!dryRun) needNote("forget", why, `why the group '${group}' is gone for good`);
  const { subscriptions, pauses } = await store.subscriptions.known();
  const meant = subscriptions.filter(
    sub => namesGroup(group, sub.group) && (pattern === undefined || sub.pattern === pattern)
  );
  const { gone, living } = await apart(parts, meant);
  for (const sub of meant) {
    const isHeld = living.some(({ queue, consumers }) => queue === sub.queue && consumers > 0);
    const pause = isHeld ? undefined : livesPaused(pauses, sub, store.now());
    if (pause) throw pausedAlive(sub, pause);
  }
  const scopes = scopesOf(group, pattern, gone, living.length > 0);
  const messages = await waitingIn(store, scopes);
  if (!gone.length && living.length) throw active(group, living);
  const left = force && !meant.length ? await leftOver(parts, group, pattern) : undefined;
  if (left) gone.push(left);
  if (!gone.length && !messages)
    throw new ReliableError(
      "RELIABLE_NOT_FOUND",
      `No subscription and no waiting message of the group '${group}'${pattern === undefined ? "" : ` for '${pattern}'`} is known.`,
      { group, pattern }
    );
  const depths = await Promise.all(gone.map(async sub => (await courier.depth(sub.queue))?.ready ?? 0));
  const queues = gone.map(({ pattern: of, queue }, i) => ({ pattern: of, queue, ready: depths[i] ?? 0 }));
  if (dryRun) return { group, messages, queues, living, dryRun };
  const record = recordOf(store, { ...actor, act: "forget", note: why, group, pattern });
  const counts: Record<string, number> = { matched: messages, done: 0, subscriptions: 0 };
  record.counts = counts;
  // Its consumers have come back since: what was begun before then has nothing to do with this.
  const since = Math.max(0, ...meant.map(({ firstSeenAt }) => firstSeenAt.getTime()));
  const id = await store.audits.beginForget(record, new Date(since));
  const note: Note = {
    at: record.at,
    by: actor.by,
    act: "forget",
    note: why,
    group,
    ...(pattern !== undefined && { pattern })
  };
  await audited(parts, id, counts, async () => {
    for (const sub of gone) await courier.unbind(sub.queue, bindingKey(sub.pattern));
    counts["subscriptions"] = await store.operations.forget(gone);
    if (group === baseGroup(group) && pattern === undefined && !living.length) await endPauses(parts, { group }, actor);
    else for (const sub of gone) await endPauses(parts, sub, actor);
    // One of them may have come back meanwhile, and has announced itself before its subscription was deleted.
    const again = await apart(parts, gone);
    if (again.living.length) {
      await store.subscriptions.announce(gone.filter(sub => again.living.some(({ queue }) => queue === sub.queue)));
      living.push(...again.living);
    }
    for (const scope of scopesOf(group, pattern, again.gone, living.length > 0))
      counts["done"] = (counts["done"] as number) + (await progress.groupForgotten(scope, note));
    for (const each of queues) {
      const stays = living.some(({ queue }) => queue === each.queue);
      if (!stays) each.ready = await removeEmpty(courier, each.queue, force);
    }
  });
  return { group, messages: counts["done"] as number, queues, living, dryRun };
}

/** The queue of a handler that was forgotten while the queue held messages. */
async function leftOver(
  { courier, namespace }: ForgetParts,
  group: string,
  pattern: string | undefined
): Promise<Subscription | undefined> {
  if (pattern === undefined) return undefined;
  const queue = eventQueue(namespace, group, pattern);
  const depth = await courier.depth(queue);
  if (!depth || depth.consumers) return undefined;
  const never = new Date(0);
  return {
    pattern,
    group: consumerGroup(group, pattern),
    queue,
    nodeID: "",
    service: "",
    firstSeenAt: never,
    seenAt: never
  };
}

/** Its messages are released: what is left in the queue are copies that nobody waits for. Returns how many stay. */
async function removeEmpty(courier: Courier, queue: string, force: boolean): Promise<number> {
  const depth = await courier.depth(queue);
  if (!depth) return 0;
  // RabbitMQ closes the connection of who asks it to delete a quorum queue only if it is empty. A consumer that comes
  // between these two lines declares its queue again, and its messages are sent again from their rows and checks.
  if (depth.consumers || (depth.ready && !force)) return depth.ready;
  await courier.remove(queue);
  return 0;
}

async function apart(
  { courier, clock }: Pick<ForgetParts, "courier" | "clock">,
  subscriptions: Subscription[]
): Promise<{ gone: Subscription[]; living: Forgotten["living"] }> {
  const gone: Subscription[] = [];
  const living: Forgotten["living"] = [];
  for (const sub of subscriptions) {
    const { consumers = 0 } = (await courier.depth(sub.queue)) ?? {};
    const lives = consumers > 0 || (await hasProcess(courier, sub, clock));
    if (lives === undefined) throw notTold(sub);
    if (lives) living.push({ pattern: sub.pattern, queue: sub.queue, consumers });
    else gone.push(sub);
  }
  return { gone, living };
}

/** Which messages are released. Without subscriptions: those that an act which died half-way has left. */
function scopesOf(
  group: string,
  pattern: string | undefined,
  gone: Subscription[],
  othersLive: boolean
): ReleaseScope[] {
  const scope = (label: string, of: string) => ({
    group: label,
    exactly: true,
    ...(isWildcard(of) ? {} : { event: of })
  });
  if (pattern !== undefined && !gone.length) return othersLive ? [] : [scope(consumerGroup(group, pattern), pattern)];
  if (pattern !== undefined || othersLive) return gone.map(sub => scope(sub.group, sub.pattern));
  return [{ group }];
}

async function waitingIn(store: Store, scopes: ReleaseScope[]): Promise<number> {
  const status = [STATUS.pending, STATUS.published, STATUS.dead];
  let sum = 0;
  for (const { group, event } of scopes)
    sum += (await store.messages.list({ group, event, status, groupIn: ["waiting", "failed"] }, 1, true)).total;
  return sum;
}

function active(group: string, living: Forgotten["living"]): ReliableError {
  const [{ queue, consumers }] = living as [Forgotten["living"][number]];
  const what = consumers
    ? `has ${consumers} consumer(s) on ${queue}`
    : `has no consumer on ${queue} now, but a process that lives (its breaker is open, or it is just starting)`;
  const text = `The group '${group}' ${what}; stop ${consumers ? "them" : "it"} first.`;
  return new ReliableError("RELIABLE_GROUP_ACTIVE", text, { group, queue, consumers });
}

function notTold({ group, queue }: Subscription): ReliableRetryableError {
  return new ReliableRetryableError(
    "RELIABLE_UNAVAILABLE",
    `RabbitMQ does not say whether the group '${group}' lives: its queue ${queue} has no consumer, and no process could be asked.`,
    { group, queue }
  );
}

/** Paused, nobody consumes: that says nothing of whether its services are gone. */
function pausedAlive({ group, pattern, queue, seenAt }: Subscription, pause: Pause): ReliableError {
  return new ReliableError(
    "RELIABLE_GROUP_ACTIVE",
    `The group '${group}' with '${pattern}' is paused (${pauseText(pause)}), and was seen at ${seenAt.toISOString()}: its services may live. Resume it, and forget it when it has no consumers then; or wait.`,
    { group, pattern, queue, seenAt }
  );
}
