import type { Courier } from "../couriers/courier";
import { type StatusSeen, statusesOf } from "../emit/status-waiter";
import { ReliableError, ReliableRetryableError } from "../errors";
import type { Message } from "../message/message";
import { pauseText } from "../message/paused";
import { unreadableRow } from "../message/unreadable";
import type { PauseMarks } from "../outbound/pause-marks";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock } from "../platform/clock";
import type { Warnings } from "../platform/warnings";
import type { Progress } from "../progress/progress";
import type { Store } from "../stores/store";
import type { Listed } from "../stores/store-records";
import type { Events } from "../telemetry/events";
import type { Actor } from "./actor";
import { type ActParams, type ActResult, actOn } from "./acts";
import { audited, notFound, recordOf } from "./audit";
import { type AuditRow, type AuditStory, auditRow, auditStory } from "./audit-views";
import { type CancelOptions, checkCancel } from "./cancel";
import { type CausesAnswer, type CausesParams, causesOf } from "./causes";
import { type DiscardParams, discardParked } from "./discard-parked";
import { type Erased, type EraseParams, erase } from "./erase";
import { type ForgetParams, type Forgotten, forget } from "./forget";
import { aheadOf, type HeldKeys, heldNow, type KeysParams, type SkipParams, skip } from "./held-keys";
import { type History, type HistoryParams, historyOf } from "./history";
import { type ListParams, list, type MessagePage } from "./list";
import { type PauseParams, type PauseResult, pause, resume } from "./pause";
import { type PausedRow, pausedRows } from "./pause-views";
import { type MessageStory, toStory } from "./story";
import { parkedRow, parkedWhole, toRow } from "./views";

/** The part of the sweeper that is asked for a pass. */
interface Sweeping {
  once(): Promise<object>;
}

/** A page of a list. `capped`: there are more than `total`, and pages after `totalPages`. */
export interface Page<T> {
  rows: T[];
  total: number;
  capped?: true;
  page: number;
  pageSize: number;
  totalPages: number;
}

export interface OperationsParts {
  store: Store;
  courier: Courier;
  subscriptions: Subscriptions;
  pauseMarks: PauseMarks;
  progress: Progress;
  sweeper: Sweeping;
  events: Events;
  warnings: Warnings;
  clock: Clock;
  namespace: string;
}

/** Manual compensation: what an operator sees and does. Every act is kept with who, when and why. */
export class Operations {
  constructor(private readonly parts: OperationsParts) {}

  async list(params: ListParams): Promise<MessagePage> {
    const { cursor, pageSize = 20, ...filter } = params;
    const { rows, nextCursor, ...counts } = await list(this.parts, filter, pageSize, cursor);
    const now = this.parts.clock.now();
    return { rows: rows.map(row => toRow(row, now)), ...counts, pageSize, ...(nextCursor && { nextCursor }) };
  }

  /** See `causesOf`. */
  causes(params: CausesParams): Promise<CausesAnswer> {
    return causesOf(this.parts.store.messages, params, this.parts.clock.now());
  }

  /** Rejects with RELIABLE_NOT_FOUND. For a discarded message the error tells who discarded it and when. */
  async get(id: string): Promise<MessageStory> {
    const { store, subscriptions, clock } = this.parts;
    const message = await this.#find(id);
    const story = toStory(message, clock.now());
    const ahead = await aheadOf(store.lanes, message);
    const groups = story.groups.map(row => {
      if (row.state !== "waiting") return row;
      const paused = subscriptions.pausedIn(row.group, message.event);
      const reason = paused.length ? `paused: ${paused.map(pauseText).join("; ")}` : ahead.get(row.group);
      return reason === undefined ? row : { ...row, reason };
    });
    return { ...story, groups };
  }

  /** For emits that wait on a node without a store. */
  statuses(ids: string[]): Promise<StatusSeen[]> {
    return statusesOf(this.parts.store, ids);
  }

  async parked(page = 1, pageSize = 20): Promise<Page<Record<string, unknown>>> {
    return pageOf(await this.parts.store.parked.list((page - 1) * pageSize, pageSize), parkedRow, page, pageSize);
  }

  /** The whole record. Rejects with RELIABLE_NOT_FOUND. */
  async oneParked(id: string): Promise<Record<string, unknown>> {
    const { parked, audits } = this.parts.store;
    const [found] = await parked.find([id]);
    if (!found) throw notFound(id, "parked message", (await audits.discarded([id]))[0]);
    return parkedWhole(found);
  }

  /** Acts, newest first. */
  async audits(page = 1, pageSize = 20): Promise<Page<AuditRow>> {
    const { audits } = this.parts.store;
    const found = await audits.list((page - 1) * pageSize, pageSize);
    const discarded = await audits.discarded(found.rows.flatMap(({ act, id }) => (act === "discard" && id ? id : [])));
    return pageOf(found, row => auditRow(row, discarded), page, pageSize);
  }

  /** All of one act. Rejects with RELIABLE_NOT_FOUND. */
  async oneAudit(id: string): Promise<AuditStory> {
    const { audits } = this.parts.store;
    const record = await audits.find(id);
    if (!record) throw new ReliableError("RELIABLE_NOT_FOUND", `There is no audit record '${id}'.`, { id });
    const { act, id: one, ids = one === undefined ? [] : [one] } = record;
    return auditStory(record, ids, act === "discard" ? await audits.discarded(ids) : []);
  }

  /** Throws RELIABLE_BAD_OPTION. */
  history(params: HistoryParams): Promise<History> {
    return historyOf(this.parts.store, params);
  }

  /** See `actOn`. */
  retry(params: ActParams, actor: Actor): Promise<ActResult> {
    return actOn(this.parts, "retry", params, actor);
  }

  resolve(params: ActParams, actor: Actor): Promise<ActResult> {
    return actOn(this.parts, "resolve", params, actor);
  }

  /**
   * See `actOn`. Of an id that was given alone: rejects with RELIABLE_ILLEGAL_TRANSITION if it was sent at this moment.
   */
  async cancel(params: ActParams, actor: Actor): Promise<ActResult> {
    const result = await actOn(this.parts, "cancel", params, actor);
    // Its status tells now why it cannot be.
    return params.id !== undefined && result.lost ? actOn(this.parts, "cancel", params, actor) : result;
  }

  /** See the mixin's `reliableCancel`. */
  async cancelOne(id: string, options: CancelOptions, actor: Actor): Promise<void> {
    checkCancel(id, options);
    const { note = "no reason given" } = options;
    const { done } = await this.cancel({ id, note }, actor);
    if (done) return;
    throw new ReliableRetryableError(
      "RELIABLE_UNAVAILABLE",
      `The message '${id}' could not be called off: its row takes no change at the moment.`,
      { id }
    );
  }

  /** Order keys that are held, and by what. Rejects with RELIABLE_BAD_OPTION (a `key` that is none). */
  keys(params: KeysParams): Promise<HeldKeys> {
    const { store, clock } = this.parts;
    return heldNow(store.lanes, params, clock.now());
  }

  /** See `skip`. */
  skip(params: SkipParams, actor: Actor): Promise<ActResult> {
    return skip(this.parts, params, actor);
  }

  discard(params: DiscardParams, actor: Actor): Promise<ActResult> {
    const { parked } = params;
    return parked === undefined
      ? actOn(this.parts, "discard", params, actor)
      : discardParked(this.parts, { ...params, parked }, actor);
  }

  /**
   * Releases a retired group, or one of its patterns: unbinds its queue, deletes its subscription and its empty queue,
   * and frees the messages that wait only for it. Rejects with RELIABLE_NOT_FOUND, RELIABLE_GROUP_ACTIVE,
   * RELIABLE_BAD_OPTION (no `note`), RELIABLE_UNAVAILABLE (RabbitMQ cannot be asked who consumes).
   */
  forget(params: ForgetParams, actor: Actor): Promise<Forgotten> {
    return forget(this.parts, params, actor);
  }

  /** See `pause`. */
  pause(params: PauseParams, actor: Actor): Promise<PauseResult> {
    return pause(this.parts, params, actor);
  }

  resume(params: PauseParams, actor: Actor): Promise<PauseResult> {
    return resume(this.parts, params, actor);
  }

  /** What is paused now; of the groups that take this event, if one is given. */
  async paused(event?: string): Promise<PausedRow[]> {
    const { subscriptions, clock } = this.parts;
    await subscriptions.refresh();
    const rows = pausedRows(subscriptions, clock.now());
    if (event === undefined) return rows;
    const concerned = subscriptions.pausedFor(event).map(pauseText);
    return rows.filter(({ text }) => concerned.includes(text));
  }

  /** See `erase`. Rejects with RELIABLE_BAD_OPTION (no `note`; a `key` that is none). */
  erase(params: EraseParams, actor: Actor): Promise<Erased> {
    return erase(this.parts, params, actor);
  }

  /** One pass now, by hand. Returns its counts. */
  async sweep({ note }: { note?: string }, actor: Actor): Promise<object> {
    const { store, sweeper } = this.parts;
    const record = recordOf(store, { ...actor, act: "sweep", note: note?.trim() ? note : undefined });
    await store.audits.begin(record);
    return audited(this.parts, record._id, record.counts, async () => {
      const counts = await sweeper.once();
      for (const [name, count] of Object.entries(counts)) if (typeof count === "number") record.counts[name] = count;
      return counts;
    });
  }

  async #find(id: string): Promise<Message> {
    const [message] = await this.parts.store.messages.find([id]);
    if (message) return message;
    const [listed] = (await this.parts.store.messages.list({ ids: [id] }, 1)).rows;
    if (listed?.unreadable !== undefined) throw unreadableRow(id, listed.unreadable);
    if (listed) {
      // It came between the two looks; or it is its body that cannot be read, which a list does not read.
      const [stored] = await this.parts.store.messages.find([id]);
      if (stored) return stored;
      throw unreadableRow(id, "its 'body' is not bytes");
    }
    throw notFound(id, "message", (await this.parts.store.audits.discarded([id]))[0]);
  }
}

export function pageOf<T, R>(
  { rows, total, capped }: Listed<T>,
  rowOf: (row: T) => R,
  page: number,
  pageSize: number
): Page<R> {
  const totalPages = Math.ceil(total / pageSize);
  return { rows: rows.map(rowOf), total, ...(capped && { capped }), page, pageSize, totalPages };
}
