import type { StatusSeen } from "../emit/status-waiter";
import { ReliableError } from "../errors";
import { STATUS, STATUSES, type Status, sourcesOf } from "../message/lifecycle";
import type { Message, Note } from "../message/message";
import { namesGroup } from "../message/pattern";
import type { AuditRecord, Parked } from "../message/records";
import type { ListQuery, Store } from "../stores/store";
import { auditRow, type MessageRow, type MessageStory, parkedRow, parkedWhole, toRow, toStory } from "./views";

/** What an operator may filter by. Instants may be Dates, ISO strings or ms; ages are ms. */
export interface Filter {
  status?: string | string[];
  event?: string;
  group?: string;
  producer?: string;
  /** Older, younger than this many ms. */
  olderThanMs?: number;
  youngerThanMs?: number;
}

/** A manual act: on one id, on several, or on what a filter finds, `limit` at most. */
export interface ActParams extends Filter {
  id?: string;
  ids?: string[];
  note?: string;
  by?: string;
  /** Only tell what would be done. @default false */
  dryRun?: boolean;
  /** @default 100 of a filter; all ids */
  limit?: number;
}

/** A discard of parked messages, which has ids only. */
export interface DiscardParams extends ActParams {
  /** Ids of parked messages; `note` is required then, and `id`, `ids`, the filter and `limit` are not for them. */
  parked?: string[];
}

export interface ActResult {
  /** How many messages were found and may be acted on. */
  matched: number;
  done: number;
  /** Changed under our hands: not acted on. */
  lost: number;
  dryRun: boolean;
  ids: string[];
}

type Act = "retry" | "resolve" | "discard";

/** What a human did, as lifecycle events name it. */
export type Done = "retried" | "resolved" | "discarded";
const DONE: Record<Act, Done> = { retry: "retried", resolve: "resolved", discard: "discarded" };

const TARGET: Record<Act, Status | "discarded"> = {
  retry: STATUS.pending,
  resolve: STATUS.resolved,
  discard: "discarded"
};
const DEFAULT_LIMIT = 100;

/** Manual compensation: what a human sees and does. Every act is kept with who, when and why. */
export class Operations {
  constructor(
    readonly store: Store,
    /** A retried message is due now: no need to wait for the next sweep. */
    readonly onRetry: () => void,
    readonly onActed: (act: Done, ids: string[], by: string) => void
  ) {}

  async list(
    filter: Filter & { page?: number; pageSize?: number }
  ): Promise<{ rows: MessageRow[]; total: number; page: number; pageSize: number; totalPages: number }> {
    const { page = 1, pageSize = 20 } = filter;
    const { rows, total } = await this.store.list(queryOf(filter), (page - 1) * pageSize, pageSize);
    return { rows: rows.map(row => toRow(row)), total, page, pageSize, totalPages: Math.ceil(total / pageSize) };
  }

  /** Rejects with RELIABLE_NOT_FOUND; a discarded message is told by its audit record. */
  async get(id: string): Promise<MessageStory> {
    return toStory(await this.#find(id));
  }

  /** For nodes without a store, whose emits wait. */
  async statuses(ids: string[]): Promise<StatusSeen[]> {
    return (await this.store.find(ids)).map(({ _id: id, status, reason }) => ({
      id,
      status,
      ...(reason && { reason })
    }));
  }

  async parked(
    page = 1,
    pageSize = 20
  ): Promise<{ rows: Record<string, unknown>[]; total: number; page: number; pageSize: number; totalPages: number }> {
    const { rows, total } = await this.store.parked((page - 1) * pageSize, pageSize);
    return { rows: rows.map(parkedRow), total, page, pageSize, totalPages: Math.ceil(total / pageSize) };
  }

  /** The whole record. Rejects with RELIABLE_NOT_FOUND. */
  async oneParked(id: string): Promise<Record<string, unknown>> {
    const [parked] = await this.#findParked([id]);
    return parkedWhole(parked as Parked);
  }

  async audits(): Promise<Record<string, unknown>[]> {
    return (await this.store.audits()).map(auditRow);
  }

  retry(params: ActParams, who: string): Promise<ActResult> {
    return this.#act("retry", params, who, (message, note) => this.store.retry(message, note.at, note)).finally(
      () => params.dryRun || this.onRetry()
    );
  }

  resolve(params: ActParams, who: string): Promise<ActResult> {
    return this.#act("resolve", params, who, (message, note) => this.store.resolve(message, note));
  }

  /** Rejects with RELIABLE_BAD_OPTION, RELIABLE_NOT_FOUND or RELIABLE_ILLEGAL_TRANSITION before anything is deleted. */
  async discard(params: DiscardParams, who: string): Promise<ActResult> {
    if (params.parked) return this.#discardParked({ ...params, parked: [...new Set(params.parked)] }, who);
    return this.#act("discard", params, who, (message, note) => this.store.discard(message, auditOf(message, note)));
  }

  /**
   * Releases a retired group: its subscriptions are deleted, messages that wait only for it are freed. Rejects with
   * RELIABLE_NOT_FOUND / RELIABLE_GROUP_ACTIVE.
   */
  async forget(
    params: { group: string; note?: string; by?: string; dryRun?: boolean; force?: boolean },
    who: string,
    consumersOf: (queue: string) => Promise<number>
  ): Promise<{ group: string; subscriptions: number; messages: number; queues: string[]; dryRun: boolean }> {
    const { group, dryRun = false } = params;
    const meant = (await this.store.subscriptions()).filter(sub => namesGroup(group, sub.group));
    const { total } = await this.store.list({ group, status: [STATUS.pending, STATUS.published, STATUS.dead] }, 0, 1);
    if (!meant.length && !total)
      throw new ReliableError(
        "RELIABLE_NOT_FOUND",
        `No subscription and no waiting message of the group '${group}' is known.`,
        { group }
      );
    const queues = meant.map(sub => sub.queue);
    if (!params.force) {
      for (const queue of queues) {
        const consumers = await consumersOf(queue);
        if (consumers > 0)
          throw new ReliableError(
            "RELIABLE_GROUP_ACTIVE",
            `The group '${group}' has ${consumers} consumer(s) on ${queue}; stop them first, or pass force.`,
            { group, queue, consumers }
          );
      }
    }
    if (dryRun) return { group, subscriptions: meant.length, messages: total, queues, dryRun };
    const freed = await this.store.forget(group, {
      at: new Date(),
      by: params.by ?? who,
      act: "forget",
      ...(params.note ? { note: params.note } : {})
    });
    return { group, ...freed, queues, dryRun };
  }

  async #find(id: string): Promise<Message> {
    const [message] = await this.store.find([id]);
    if (message) return message;
    const [audit] = await this.store.audits(id);
    if (audit)
      throw new ReliableError(
        "RELIABLE_NOT_FOUND",
        `The message '${id}' was discarded by ${audit.by} at ${audit.at.toISOString()}${audit.note ? `: ${audit.note}` : ""}.`,
        { id, discardedAt: audit.at, by: audit.by }
      );
    throw new ReliableError(
      "RELIABLE_NOT_FOUND",
      `No message '${id}' is in the store; final ones are pruned after retainMs.`,
      { id }
    );
  }

  /** In the order of `ids`. */
  async #findParked(ids: string[]): Promise<Parked[]> {
    const found = new Map((await this.store.findParked(ids)).map(parked => [parked._id, parked]));
    return ids.map(id => {
      const parked = found.get(id);
      if (!parked)
        throw new ReliableError(
          "RELIABLE_NOT_FOUND",
          `No parked message '${id}' is in the store; those that were discarded are told by 'audits'.`,
          { id }
        );
      return parked;
    });
  }

  async #discardParked(params: DiscardParams & { parked: string[] }, who: string): Promise<ActResult> {
    const { parked: ids, note = "", by = who, dryRun = false } = params;
    const other = params.id !== undefined || params.ids || params.limit !== undefined || hasFilter(params);
    if (other)
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        "'discard' takes either 'parked' or ids and filters of messages, not both.",
        { option: "parked" }
      );
    if (!dryRun && note.trim() === "")
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        "'discard' of parked messages needs a 'note': why they may go. It is all that is left of them.",
        { option: "note" }
      );
    const rows = await this.#findParked(ids);
    const result: ActResult = { matched: rows.length, done: 0, lost: 0, dryRun, ids };
    if (dryRun) return result;
    for (const parked of rows)
      await this.store.discardParked(parked, parkedAuditOf(parked, { at: new Date(), by, act: "discard", note }));
    return { ...result, done: rows.length };
  }

  async #act(
    act: Act,
    params: ActParams,
    who: string,
    apply: (message: Message, note: Note) => Promise<boolean>
  ): Promise<ActResult> {
    const { dryRun = false } = params;
    const byId = [...new Set([...(params.id !== undefined ? [params.id] : []), ...(params.ids ?? [])])];
    const { limit = byId.length || DEFAULT_LIMIT } = params;
    // `forget` may resolve others too; by hand only what has come to rest can be touched.
    const from: Status[] = sourcesOf(TARGET[act]).filter(status => status === STATUS.dead);
    let messages: Message[];
    if (byId.length) {
      // A filter beside ids would be read as a restriction, and is none.
      if (hasFilter(params))
        throw new ReliableError("RELIABLE_BAD_OPTION", `'${act}' takes either ids or a filter, not both.`, {
          option: "id"
        });
      messages = await Promise.all(byId.slice(0, limit).map(id => this.#find(id)));
      const wrong = messages.find(message => !from.includes(message.status));
      if (wrong)
        throw new ReliableError(
          "RELIABLE_ILLEGAL_TRANSITION",
          `Cannot ${act} message '${wrong._id}': it is ${wrong.status}, only ${from.join(", ")} ones can be.`,
          { id: wrong._id, status: wrong.status, act }
        );
    } else {
      if (!hasFilter(params))
        throw new ReliableError(
          "RELIABLE_BAD_OPTION",
          `'${act}' needs an id, ids, or a filter (status, event, group, producer, olderThanMs, youngerThanMs).`,
          { option: "id" }
        );
      const query = queryOf(params);
      const asked = query.status === undefined ? from : [query.status].flat();
      const illegal = asked.find(status => !from.includes(status));
      if (illegal)
        throw new ReliableError(
          "RELIABLE_ILLEGAL_TRANSITION",
          `Cannot ${act} messages that are ${illegal}; only ${from.join(", ")} ones can be.`,
          { status: illegal, act }
        );
      messages = (await this.store.list({ ...query, status: asked }, 0, limit)).rows;
    }
    const result: ActResult = {
      matched: messages.length,
      done: 0,
      lost: 0,
      dryRun,
      ids: messages.map(message => message._id)
    };
    if (dryRun) return result;
    const by = params.by ?? who;
    const done: string[] = [];
    for (const message of messages) {
      const note: Note = { at: this.store.now(), by, act, ...(params.note ? { note: params.note } : {}) };
      if (await apply(message, note)) done.push(message._id);
      else result.lost++;
    }
    if (done.length) this.onActed(DONE[act], done, by);
    return { ...result, done: done.length };
  }
}

function hasFilter(params: Filter): boolean {
  return (["status", "event", "group", "producer", "olderThanMs", "youngerThanMs"] as const).some(
    name => params[name] !== undefined
  );
}

function queryOf(filter: Filter): ListQuery {
  const query: ListQuery = {};
  if (filter.status !== undefined) {
    const statuses = [filter.status]
      .flat()
      .flatMap(status => status.split(","))
      .map(status => status.trim());
    const unknown = statuses.find(status => !STATUSES.includes(status as Status));
    if (unknown !== undefined)
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        `Unknown status '${unknown}'. There are: ${STATUSES.join(", ")}.`,
        { option: "status" }
      );
    query.status = statuses as Status[];
  }
  if (filter.event !== undefined) query.event = filter.event;
  if (filter.group !== undefined) query.group = filter.group;
  if (filter.producer !== undefined) query.producer = filter.producer;
  if (filter.olderThanMs !== undefined) query.createdBefore = new Date(Date.now() - filter.olderThanMs);
  if (filter.youngerThanMs !== undefined) query.createdAfter = new Date(Date.now() - filter.youngerThanMs);
  return query;
}

function auditOf(message: Message, note: Note): AuditRecord {
  const { _id: id, event, producer, createdAt, reason, failed, body } = message;
  return {
    // Of this row: an id may be emitted and discarded again.
    _id: `discard:${id}@${createdAt.getTime()}`,
    at: note.at,
    by: note.by,
    act: "discard",
    ...(note.note ? { note: note.note } : {}),
    message: { id, event, producer, createdAt, ...(reason ? { reason } : {}), failed, bytes: body.length }
  };
}

function parkedAuditOf({ _id: id, at, queue, reason, body }: Parked, note: Note): AuditRecord {
  // Of this parking: the same message may be parked and discarded again.
  return {
    _id: `discard-parked:${id}@${at.getTime()}`,
    ...note,
    act: "discard",
    parked: { id, queue, reason, at, bytes: body.length }
  };
}
