import type { Courier } from "../couriers/courier";
import { ReliableError } from "../errors";
import { STATUS } from "../message/lifecycle";
import type { Note } from "../message/message";
import { bindingKey, consumerGroup, isWildcard, namesGroup } from "../message/pattern";
import type { Subscription } from "../message/records";
import type { Progress } from "../progress/progress";
import type { Store } from "../stores/store";
import type { ReleaseScope } from "../stores/store-records";
import { eventQueue } from "../wire/names";

export interface ForgetParams {
  /** A group, with its wildcard handlers; or one of them, as `<group>:<pattern>`. */
  group: string;
  /** Only its handler of this event or pattern. */
  pattern?: string;
  /** Why. Required, but for a `dryRun`. */
  note?: string;
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
  /** Its handlers that have consumers: they stay, whatever is asked. */
  living: { pattern: string; queue: string; consumers: number }[];
  dryRun: boolean;
}

interface ForgetParts {
  store: Store;
  courier: Courier;
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
 */
export async function forget(parts: ForgetParts, params: ForgetParams, who: string): Promise<Forgotten> {
  const { store, courier, progress } = parts;
  const { group, pattern, note: why = "", dryRun = false, force = false } = params;
  if (!dryRun && why.trim() === "")
    throw new ReliableError("RELIABLE_BAD_OPTION", `'note' must say why the group '${group}' is forgotten.`, {
      option: "note"
    });
  const meant = (await store.subscriptions.list()).filter(
    sub => namesGroup(group, sub.group) && (pattern === undefined || sub.pattern === pattern)
  );
  const { gone, living } = await apart(courier, meant);
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
  const note: Note = {
    at: store.now(),
    by: params.by ?? who,
    act: "forget",
    note: why,
    group,
    ...(pattern !== undefined && { pattern })
  };
  for (const sub of gone) await courier.unbind(sub.queue, bindingKey(sub.pattern));
  await store.operations.forget(gone, note);
  // One of them may have come back meanwhile, and has announced itself before its subscription was deleted.
  const again = await apart(courier, gone);
  if (again.living.length) {
    await store.subscriptions.announce(gone.filter(sub => again.living.some(({ queue }) => queue === sub.queue)));
    living.push(...again.living);
  }
  let freed = 0;
  for (const scope of scopesOf(group, pattern, again.gone, living.length > 0))
    freed += await progress.groupForgotten(scope, note);
  for (const each of queues) {
    const stays = living.some(({ queue }) => queue === each.queue);
    if (!stays) each.ready = await removeEmpty(courier, each.queue, force);
  }
  return { group, messages: freed, queues, living, dryRun };
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
  courier: Courier,
  subscriptions: Subscription[]
): Promise<{ gone: Subscription[]; living: Forgotten["living"] }> {
  const gone: Subscription[] = [];
  const living: Forgotten["living"] = [];
  for (const sub of subscriptions) {
    const { consumers = 0 } = (await courier.depth(sub.queue)) ?? {};
    if (consumers) living.push({ pattern: sub.pattern, queue: sub.queue, consumers });
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
  let sum = 0;
  for (const { group, event } of scopes)
    sum += (await store.messages.list({ group, event, status: [STATUS.pending, STATUS.published, STATUS.dead] }, 0, 1))
      .total;
  return sum;
}

function active(group: string, living: Forgotten["living"]): ReliableError {
  const [{ queue, consumers }] = living as [Forgotten["living"][number]];
  return new ReliableError(
    "RELIABLE_GROUP_ACTIVE",
    `The group '${group}' has ${consumers} consumer(s) on ${queue}; stop them first.`,
    { group, queue, consumers }
  );
}
