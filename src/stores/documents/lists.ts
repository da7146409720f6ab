import { STATUS, STATUSES, type Status } from "../../message/lifecycle";
import type { Message } from "../../message/message";
import type { ListQuery, StoreStats } from "../store-records";
import { decodeMessage, keyOf } from "./codec";
import type { Database, Filter } from "./collection";
import { instantOf, labelsOf, textOf } from "./queries";

/** The messages as an operator sees them. */
export class MessageLists {
  constructor(private readonly db: Database) {}

  async list(query: ListQuery, offset: number, limit: number): Promise<{ rows: Message[]; total: number }> {
    const filter = await this.#filterOf(query);
    const { messages } = this.db.collections;
    const [docs, total] = await Promise.all([
      messages.find(filter, { sort: { createdAt: -1, _id: -1 }, skip: offset, limit }),
      messages.count(filter)
    ]);
    return { rows: docs.map(decodeMessage), total };
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
    const [doc] = await this.db.collections.messages.find(
      { status },
      { sort: { createdAt: 1 }, limit: 1, fields: ["createdAt"] }
    );
    return doc?.createdAt as Date | undefined;
  }

  async #filterOf(query: ListQuery): Promise<Filter> {
    const filter: Filter = {};
    if (query.ids) filter._id = { $in: query.ids.map(id => textOf("ids", id)) };
    if (query.status) filter.status = { $in: [query.status].flat().map(status => textOf("status", status)) };
    if (query.event !== undefined) filter.event = textOf("event", query.event);
    if (query.producer !== undefined) filter.producer = textOf("producer", query.producer);
    if (query.createdAfter || query.createdBefore) {
      filter.createdAt = {
        ...(query.createdAfter && { $gte: instantOf("createdAfter", query.createdAfter) }),
        ...(query.createdBefore && { $lt: instantOf("createdBefore", query.createdBefore) })
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
        [`receipts.${keyOf(label)}`]: { $exists: true }
      }));
      filter.$or = [{ waiting: labelled }, { failed: labelled }, ...receipts];
    }
    return filter;
  }
}
