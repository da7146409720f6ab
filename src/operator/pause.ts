import type { Courier } from "../couriers/courier";
import { ReliableError, reasonOf } from "../errors";
import { ANY_GROUP } from "../message/message";
import { pausableGroup, pausedName, pauses, pauseText } from "../message/paused";
import { queueTargetOf } from "../message/queue-target";
import type { Pause } from "../message/records";
import type { PauseMarks } from "../outbound/pause-marks";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock } from "../platform/clock";
import type { Warnings } from "../platform/warnings";
import type { PauseKey, Store } from "../stores/store";
import type { Events } from "../telemetry/events";
import type { Actor } from "./actor";
import { audited, needNote, recordOf } from "./audit";

export interface PauseParams {
  /** A group; a wildcard handler of it as `<group>:<pattern>`; a queue of moleculer-amqp-queue as `queue/<name>`. */
  group: string;
  /** Only its handler of this event or pattern. */
  pattern?: string;
  /** Why. Required to pause. */
  note?: string;
  /** Who, where the call's meta names no user. */
  by?: string;
}

export interface PauseResult {
  group: string;
  pattern?: string;
  /** Of the pause. */
  since: string;
  by: string;
  note: string;
  /**
   * Its marker at RabbitMQ is as it should be. False = RabbitMQ does not answer, and the sweeping node sees to it once it
   * does.
   */
  marked: boolean;
  /**
   * `consumers`: after a pause, those whose handlers still run, and those that know no pauses. null = it cannot be looked
   * at.
   */
  queues: { pattern: string; queue: string; ready: number | null; consumers: number | null }[];
}

export interface PausingParts {
  store: Store;
  courier: Courier;
  subscriptions: Subscriptions;
  pauseMarks: PauseMarks;
  events: Events;
  warnings: Warnings;
  clock: Clock;
}

type Queue = Pick<PauseResult["queues"][number], "pattern" | "queue">;

/** In this time consumers cease or go on, if they hear of it. */
const EFFECT_MS = 5000;
const LOOK_MS = 100;

/** While a group is paused nobody consumes. That its services live is seen by their announcements, of every 10 min. */
const ALIVE_MS = 25 * 60_000;

/**
 * Pauses a group, or one of its patterns, until `resume`. Rejects with RELIABLE_NOT_FOUND (no such group or pattern),
 * RELIABLE_ILLEGAL_TRANSITION (paused already), RELIABLE_BAD_OPTION (no `note`), RELIABLE_UNSUPPORTED (a queue for jobs
 * whose workers are not ours). What happens if the process dies: see `PauseMarks`.
 */
export async function pause(parts: PausingParts, params: PauseParams, actor: Actor): Promise<PauseResult> {
  const { store, subscriptions, events } = parts;
  const { note = "" } = params;
  needNote("pause", note, "why it may wait");
  const { key, queues } = await meantBy(parts, params);
  const before = await store.pauses.find(key);
  if (before && !before.resumed) throw pausedAlready(before);
  const record = recordOf(store, { ...actor, act: "pause", note, ...key });
  record.counts = { matched: queues.length, done: 0 };
  await store.audits.begin(record);
  const paused: Pause = { ...key, at: record.at, by: actor.by, note };
  return audited(parts, record._id, record.counts, async () => {
    if (!(await store.pauses.pause(paused))) throw pausedAlready((await store.pauses.find(key)) ?? paused);
    await subscriptions.refresh();
    const { marked, heard } = await agree(parts, key).catch(error => takeBack(parts, paused, error));
    const seen = await afterwards(parts, queues, heard);
    const left = seen.reduce((sum, { consumers }) => sum + (consumers ?? 0), 0);
    if (left && !heard && queueTargetOf(key.group)) await takeBack(parts, paused, workersOfOthers(key.group, left));
    record.counts["done"] = queues.length;
    events.emit("paused", key, actor.by, note);
    return resultOf(paused, marked, seen);
  });
}

/** Rejects with RELIABLE_NOT_FOUND, RELIABLE_ILLEGAL_TRANSITION (it is not paused). */
export async function resume(parts: PausingParts, params: PauseParams, actor: Actor): Promise<PauseResult> {
  const { store, courier, pauseMarks, subscriptions, events } = parts;
  const note = params.note?.trim() ? params.note : undefined;
  const key = keyOf(params);
  const paused = await store.pauses.find(key);
  const isPaused = paused !== undefined && !paused.resumed;
  const { queues } = isPaused ? { queues: await queuesOf(parts, key) } : await meantBy(parts, params);
  // Of a pause that the store does not know (any more) the marker alone is left, and keeps the group from taking.
  if (!isPaused && !(await courier.control.marked(pauseMarks.markerOf(key)))) throw await notPaused(parts, key);
  const record = recordOf(store, { ...actor, act: "resume", note, ...key });
  record.counts = { matched: queues.length, done: 0 };
  await store.audits.begin(record);
  return audited(parts, record._id, record.counts, async () => {
    const resumed = { at: record.at, by: actor.by, ...(note !== undefined && { note }) };
    if (isPaused && !(await store.pauses.resume(key, resumed))) throw await notPaused(parts, key);
    await subscriptions.refresh();
    const { marked } = await agree(parts, key);
    record.counts["done"] = queues.length;
    events.emit("resumed", key, actor.by, note);
    const was = paused ?? { ...key, at: record.at, by: "unknown", note: "its marker alone was there" };
    return resultOf(was, marked, await look(parts, queues));
  });
}

/**
 * The group is gone for good, and so are its pauses; `pattern`: of that one alone. Nobody consumes while a group is
 * paused, so whether it lives is to be asked before: see `lives`.
 */
export async function endPauses(parts: PausingParts, { group, pattern }: PauseKey, actor: Actor): Promise<void> {
  const { store, subscriptions } = parts;
  const open = (await store.pauses.list()).filter(
    pause =>
      !pause.resumed && pause.group === pausableGroup(group) && (pattern === undefined || pause.pattern === pattern)
  );
  for (const key of open) {
    await store.pauses.resume(key, { at: store.now(), by: actor.by, note: "forgotten" });
    await agree(parts, key);
  }
  if (open.length) await subscriptions.refresh();
}

/** Why a handler that has no consumers may live all the same; undefined = it is not paused, or was not seen for long. */
export function livesPaused(
  known: readonly Pause[],
  sub: { group: string; pattern: string; seenAt: Date },
  now: Date
): Pause | undefined {
  return now.getTime() - sub.seenAt.getTime() < ALIVE_MS
    ? known.find(pause => !pause.resumed && pauses(pause, sub))
    : undefined;
}

function keyOf({ group, pattern }: PauseParams): PauseKey {
  if (group === ANY_GROUP)
    throw new ReliableError("RELIABLE_BAD_OPTION", `'${ANY_GROUP}' is no group that could be paused.`, {
      option: "group"
    });
  const base = pausableGroup(group);
  if (queueTargetOf(base)) return { group: base };
  const of = pattern ?? (group === base ? undefined : group.slice(base.length + 1));
  return { group: base, ...(of !== undefined && { pattern: of }) };
}

async function queuesOf({ store, courier }: PausingParts, key: PauseKey): Promise<Queue[]> {
  const target = queueTargetOf(key.group);
  if (target) return (await courier.depth(target.queue)) ? [{ pattern: target.queue, queue: target.queue }] : [];
  return (await store.subscriptions.list())
    .filter(sub => pauses(key, sub))
    .map(({ pattern, queue }) => ({ pattern, queue }));
}

/** Throws RELIABLE_NOT_FOUND. */
async function meantBy(parts: PausingParts, params: PauseParams): Promise<{ key: PauseKey; queues: Queue[] }> {
  const key = keyOf(params);
  const target = queueTargetOf(key.group);
  const queues = target && params.pattern !== undefined ? [] : await queuesOf(parts, key);
  if (queues.length) return { key, queues };
  const { pattern = key.pattern } = params;
  throw new ReliableError(
    "RELIABLE_NOT_FOUND",
    target
      ? `There is no queue '${target.queue}'${pattern === undefined ? "" : `, and jobs have no patterns ('${pattern}')`}.`
      : `No group '${key.group}'${pattern === undefined ? "" : ` with a handler of '${pattern}'`} is known; see \`reliable.subscriptions\`.`,
    { ...key, ...(pattern !== undefined && { pattern }) }
  );
}

interface Agreed {
  marked: boolean;
  /** One of its consumers at least knows pauses. */
  heard: boolean;
}

/** Not `marked` = RabbitMQ cannot be reached. Rejects with what does not pass by itself. */
async function agree({ pauseMarks, warnings }: PausingParts, key: PauseKey): Promise<Agreed> {
  try {
    return { marked: true, heard: await pauseMarks.agree(key) };
  } catch (error) {
    if ((error as Partial<ReliableError>).retryable === false) throw error;
    warnings.warn(
      "pause",
      pausedName(key),
      `Reliable: RabbitMQ does not answer, so the pause of ${pausedName(key)} is set or ended there later: ${reasonOf(error)}`
    );
    return { marked: false, heard: false };
  }
}

/** It could not be paused: as if it had not been tried, but for its audit record. */
async function takeBack(parts: PausingParts, { group, pattern, by }: Pause, error: unknown): Promise<never> {
  const key = { group, ...(pattern !== undefined && { pattern }) };
  await parts.store.pauses.resume(key, { at: parts.store.now(), by, note: `not possible: ${reasonOf(error)}` });
  await parts.subscriptions.refresh();
  await agree(parts, key).catch(() => undefined);
  throw error;
}

async function look({ courier }: PausingParts, queues: Queue[]): Promise<PauseResult["queues"]> {
  return Promise.all(
    queues.map(async each => {
      const depth = await courier.depth(each.queue).catch(() => undefined);
      return { ...each, ready: depth?.ready ?? null, consumers: depth?.consumers ?? null };
    })
  );
}

/**
 * When nobody consumes any more, or after a while. RabbitMQ counts a consumer that has ceased as long as it holds
 * messages whose handlers run.
 */
async function afterwards(parts: PausingParts, queues: Queue[], heard: boolean): Promise<PauseResult["queues"]> {
  const { clock } = parts;
  const until = clock.monotonic() + EFFECT_MS;
  for (;;) {
    const seen = await look(parts, queues);
    if (!heard || seen.every(({ consumers }) => !consumers) || clock.monotonic() >= until) return seen;
    await clock.sleep(LOOK_MS);
  }
}

function resultOf(
  { group, pattern, at, by, note }: Pause,
  marked: boolean,
  queues: PauseResult["queues"]
): PauseResult {
  return { group, ...(pattern !== undefined && { pattern }), since: at.toISOString(), by, note, marked, queues };
}

function pausedAlready(pause: Pause): ReliableError {
  const { group, pattern } = pause;
  return new ReliableError("RELIABLE_ILLEGAL_TRANSITION", `It is paused already: ${pauseText(pause)}.`, {
    group,
    pattern,
    since: pause.at,
    by: pause.by
  });
}

async function notPaused({ store }: PausingParts, key: PauseKey): Promise<ReliableError> {
  const others = (await store.pauses.list()).filter(
    ({ group, resumed, pattern }) => !resumed && group === key.group && pattern !== key.pattern
  );
  const but = others.length ? ` Paused is: ${others.map(pauseText).join("; ")}.` : "";
  return new ReliableError("RELIABLE_ILLEGAL_TRANSITION", `${pausedName(key)} is not paused itself.${but}`, { ...key });
}

function workersOfOthers(group: string, consumers: number): ReliableError {
  const { queue = group } = queueTargetOf(group) ?? {};
  return new ReliableError(
    "RELIABLE_UNSUPPORTED",
    `The queue '${queue}' cannot be paused: none of its ${consumers} consumer(s) has the mixin ReliableAmqpQueue, in a version that knows pauses.`,
    { group, queue, consumers }
  );
}
