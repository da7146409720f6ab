import { STATUS, STATUSES, type Status } from "../../message/lifecycle";
import type { ListedMessage } from "../../message/message";
import type { ListQuery, StoreStats } from "../store-records";
import { decodeListed, pathOf } from "./codec";
import type { Database, Filter } from "./collection";
import { instantOf, labelsOf, textOf } from "./queries";

const NEWEST = { at: -1 } as const;

function statusesOf({ status = [...STATUSES] }: ListQuery): string[] {
  return [...new Set([status].flat())].map(each => textOf("status", each));
}

/** The messages as an operator sees them. */
export class MessageLists {
  constructor(private readonly db: Database) {}

  async list(query: ListQuery, offset: number, limit: number): Promise<{ rows: ListedMessage[]; total: number }> {
    const filter = await this.#filterOf(query);
    const { messages } = this.db.collections;
    const [pages, total] = await Promise.all([
      Promise.all(
        // The index serves the order within one status only. Asked for by id they are few.
        (query.ids ? [filter] : statusesOf(query).map(status => ({ ...filter, status }))).map(each =>
          messages.find(each, { sort: NEWEST, limit: offset + limit, without: ["body"] })
        )
      ),
      messages.count(filter)
    ]);
    const newest = pages.flat().sort((a, b) => (b.at as Date).getTime() - (a.at as Date).getTime());
    return { rows: newest.slice(offset, offset + limit).map(decodeListed), total };
  }

  async stats(): Promise<StoreStats> {
    const { messages, parked } = this.db.collections;
    const [parkedCount, oldest, oldestDeadAt, ...counts] = await Promise.all([
      parked.count({}),
      this.oldest(),
      this.#oldest(STATUS.dead),
      ...STATUSES.map(status => messages.count({ status }))
    ]);
    const byStatus = Object.fromEntries(STATUSES.map((status, i) => [status, counts[i]])) as Record<Status, number>;
    return {
      byStatus,
      parked: parkedCount,
      oldestPendingAt: oldest.pending,
      oldestPublishedAt: oldest.published,
      oldestDeadAt
    };
  }

  async oldest(): Promise<{ pending?: Date; published?: Date }> {
    const [pending, published] = await Promise.all([this.#oldest(STATUS.pending), this.#oldest(STATUS.published)]);
    return { pending, published };
  }

  async #oldest(status: Status): Promise<Date | undefined> {
    const [doc] = await this.db.collections.messages.find({ status }, { sort: { at: 1 }, limit: 1, fields: ["at"] });
    return doc?.at as Date | undefined;
  }

  async #filterOf(query: ListQuery): Promise<Filter> {
    const filter: Filter = {};
    if (query.ids) filter._id = { $in: query.ids.map(id => textOf("ids", id)) };
    if (query.status) filter.status = { $in: statusesOf(query) };
    if (query.event !== undefined) filter.event = textOf("event", query.event);
    if (query.producer !== undefined) filter.producer = textOf("producer", query.producer);
    if (query.after || query.before) {
      filter.at = {
        ...(query.after && { $gte: instantOf("after", query.after) }),
        ...(query.before && { $lt: instantOf("before", query.before) })
      };
    }
    if (query.group !== undefined) {
      const group = textOf("group", query.group);
      const labelled = labelsOf(group);
      // Field names cannot be matched by pattern, so the possible labels come from the subscriptions.
      const known = (await this.db.collections.subscriptions.find({ group: labelled }, { fields: ["group"] })).map(
        doc => doc.group as string
      );
      const receipts = [...new Set([group, ...known])].map(label => ({
        [pathOf("receipts", label)]: { $exists: true }
      }));
      filter.$or = [{ waiting: labelled }, { failed: labelled }, ...receipts];
    }
    return filter;
  }
}
