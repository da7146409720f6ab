import type { Courier } from "../couriers/courier";
import { type StatusSeen, statusesOf } from "../emit/status-waiter";
import { ReliableError } from "../errors";
import { isFinal, STATUS, STATUSES, type Status, sourcesOf } from "../message/lifecycle";
import type { ListedMessage, Message, Note } from "../message/message";
import type { Parked } from "../message/records";
import { unreadableRow } from "../message/unreadable";
import type { Clock } from "../platform/clock";
import type { Progress } from "../progress/progress";
import type { Store } from "../stores/store";
import type { Act as Done, Events } from "../telemetry/events";
import { auditOf, parkedAuditOf } from "./audit";
import { type Filter, hasFilter, queryOf } from "./filter";
import { type ForgetParams, type Forgotten, forget } from "./forget";
import { auditRow, type MessageRow, type MessageStory, parkedRow, parkedWhole, toRow, toStory } from "./views";

/** A manual act: on one id, on several, or on what a filter finds, `limit` at most. */
export interface ActParams extends Filter {
  id?: string;
  ids?: string[];
  note?: string;
  by?: string;
  /** Only returns what would be done. @default false */
  dryRun?: boolean;
  /** @default 100 of a filter; all ids */
  limit?: number;
}

/** A discard of parked messages, which has ids only. */
export interface DiscardParams extends ActParams {
  /** Ids of parked messages. Then `note` is required, and `id`, `ids`, `limit` and the filter are not allowed. */
  parked?: string[];
}

export interface ActResult {
  /** How many messages were found and may be acted on. */
  matched: number;
  done: number;
  /** Not acted on, because another process changed them in the meantime. */
  lost: number;
  dryRun: boolean;
  ids: string[];
  /** How many more the filter finds, beyond `limit`; not there where there are none. */
  more?: number;
}

type Act = "retry" | "resolve" | "discard";

export interface OperationsParts {
  store: Store;
  courier: Courier;
  progress: Progress;
  events: Events;
  clock: Clock;
  namespace: string;
}

/** As lifecycle events name it. */
const DONE: Record<Act, Done> = { retry: "retried", resolve: "resolved", discard: "discarded" };

const TARGET: Record<Act, Status | "discarded"> = {
  retry: STATUS.pending,
  resolve: STATUS.resolved,
  discard: "discarded"
};
const DEFAULT_LIMIT = 100;

/** Manual compensation: what an operator sees and does. Every act is kept with who, when and why. */
export class Operations {
  constructor(private readonly parts: OperationsParts) {}

  async list(
    filter: Filter & { page?: number; pageSize?: number }
  ): Promise<{ rows: MessageRow[]; total: number; page: number; pageSize: number; totalPages: number }> {
    const { page = 1, pageSize = 20 } = filter;
    const { rows, total } = await this.#found(filter, (page - 1) * pageSize, pageSize);
    return {
      rows: rows.map(row => toRow(row, this.parts.clock.now())),
      total,
      page,
      pageSize,
      totalPages: Math.ceil(total / pageSize)
    };
  }

  /** Without a filter, what is not final stands first: in millions of consumed messages nobody would find the others. */
  async #found(filter: Filter, offset: number, limit: number): Promise<{ rows: ListedMessage[]; total: number }> {
    const { messages } = this.parts.store;
    if (hasFilter(filter)) return messages.list(queryOf(filter, this.parts.clock.now()), offset, limit);
    const open = await messages.list({ status: STATUSES.filter(status => !isFinal(status)) }, offset, limit);
    const left = limit - open.rows.length;
    // Of a full page one row is read in vain, since some stores take a limit of 0 for none.
    const skip = Math.max(0, offset - open.total);
    const final = await messages.list({ status: STATUSES.filter(isFinal) }, skip, Math.max(1, left));
    return { rows: [...open.rows, ...final.rows.slice(0, left)], total: open.total + final.total };
  }

  /** Rejects with RELIABLE_NOT_FOUND. For a discarded message the error tells who discarded it and when. */
  async get(id: string): Promise<MessageStory> {
    return toStory(await this.#find(id), this.parts.clock.now());
  }

  /** For emits that wait on a node without a store. */
  statuses(ids: string[]): Promise<StatusSeen[]> {
    return statusesOf(this.parts.store, ids);
  }

  async parked(
    page = 1,
    pageSize = 20
  ): Promise<{ rows: Record<string, unknown>[]; total: number; page: number; pageSize: number; totalPages: number }> {
    const { rows, total } = await this.parts.store.parked.list((page - 1) * pageSize, pageSize);
    return { rows: rows.map(parkedRow), total, page, pageSize, totalPages: Math.ceil(total / pageSize) };
  }

  /** The whole record. Rejects with RELIABLE_NOT_FOUND. */
  async oneParked(id: string): Promise<Record<string, unknown>> {
    const [parked] = await this.#findParked([id]);
    return parkedWhole(parked as Parked);
  }

  async audits(): Promise<Record<string, unknown>[]> {
    return (await this.parts.store.operations.audits()).map(auditRow);
  }

  retry(params: ActParams, who: string): Promise<ActResult> {
    return this.#act("retry", params, who, (message, note) =>
      this.parts.store.operations.retry(message, note.at, note)
    );
  }

  resolve(params: ActParams, who: string): Promise<ActResult> {
    return this.#act("resolve", params, who, (message, note) => this.parts.store.operations.resolve(message, note));
  }

  /** Rejects with RELIABLE_BAD_OPTION, RELIABLE_NOT_FOUND or RELIABLE_ILLEGAL_TRANSITION before anything is deleted. */
  async discard(params: DiscardParams, who: string): Promise<ActResult> {
    if (params.parked) return this.#discardParked({ ...params, parked: [...new Set(params.parked)] }, who);
    return this.#act("discard", params, who, (message, note) =>
      this.parts.store.operations.discard(message, auditOf(message, note))
    );
  }

  /**
   * Releases a retired group, or one of its patterns: unbinds its queue, deletes its subscription and its empty queue,
   * and frees the messages that wait only for it. Rejects with RELIABLE_NOT_FOUND, RELIABLE_GROUP_ACTIVE,
   * RELIABLE_BAD_OPTION (no `note`), RELIABLE_UNAVAILABLE (RabbitMQ cannot be asked who consumes).
   */
  forget(params: ForgetParams, who: string): Promise<Forgotten> {
    return forget(this.parts, params, who);
  }

  async #find(id: string): Promise<Message> {
    const [message] = await this.parts.store.messages.find([id]);
    if (message) return message;
    const [listed] = (await this.parts.store.messages.list({ ids: [id] }, 0, 1)).rows;
    if (listed?.unreadable !== undefined) throw unreadableRow(id, listed.unreadable);
    const [audit] = await this.parts.store.operations.audits(id);
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

  /** The result has the order of `ids`. */
  async #findParked(ids: string[]): Promise<Parked[]> {
    const found = new Map((await this.parts.store.parked.find(ids)).map(parked => [parked._id, parked]));
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
      await this.parts.store.parked.discard(
        parked,
        parkedAuditOf(parked, { at: new Date(this.parts.clock.now()), by, act: "discard", note })
      );
    return { ...result, done: rows.length };
  }

  async #act(
    act: Act,
    params: ActParams,
    who: string,
    apply: (message: ListedMessage, note: Note) => Promise<boolean>
  ): Promise<ActResult> {
    const { dryRun = false } = params;
    const byId = [...new Set([...(params.id !== undefined ? [params.id] : []), ...(params.ids ?? [])])];
    const { limit = byId.length || DEFAULT_LIMIT } = params;
    // `forget` may resolve other statuses too. By hand, only `dead` messages can be changed.
    const from: Status[] = sourcesOf(TARGET[act]).filter(status => status === STATUS.dead);
    let messages: ListedMessage[];
    let more = 0;
    if (byId.length) {
      // A filter beside ids looks like a restriction, and would not be one.
      if (hasFilter(params))
        throw new ReliableError("RELIABLE_BAD_OPTION", `'${act}' takes either ids or a filter, not both.`, {
          option: "id"
        });
      messages = await Promise.all(
        byId.slice(0, limit).map(id => this.#find(id).then(message => ({ ...message, bytes: message.body.length })))
      );
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
      const query = queryOf(params, this.parts.clock.now());
      const asked = query.status === undefined ? from : [query.status].flat();
      const illegal = asked.find(status => !from.includes(status));
      if (illegal)
        throw new ReliableError(
          "RELIABLE_ILLEGAL_TRANSITION",
          `Cannot ${act} messages that are ${illegal}; only ${from.join(", ")} ones can be.`,
          { status: illegal, act }
        );
      const { rows, total } = await this.parts.store.messages.list({ ...query, status: asked }, 0, limit);
      messages = rows;
      more = Math.max(0, total - rows.length);
    }
    const result: ActResult = {
      matched: messages.length,
      done: 0,
      lost: 0,
      dryRun,
      ids: messages.map(message => message._id),
      ...(more && { more })
    };
    if (dryRun) return result;
    const by = params.by ?? who;
    const done: string[] = [];
    try {
      for (const message of messages) {
        const note: Note = { at: this.parts.store.now(), by, act, ...(params.note ? { note: params.note } : {}) };
        if (await apply(message, note)) done.push(message._id);
        else result.lost++;
      }
    } finally {
      // If one of them fails, those before it are done all the same.
      if (done.length) this.parts.events.emit("acted", DONE[act], done, by);
    }
    return { ...result, done: done.length };
  }
}
