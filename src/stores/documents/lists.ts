import { isFinal, STATUS, STATUSES, type Status } from "../../message/lifecycle";
import type { ListedMessages, ListQuery, Oldest, StoreStats } from "../store-records";
import { decodeListed } from "./codec";
import { type Count, type Database, type Doc, EPOCH, type Filter } from "./collection";
import { ANY_TIME, COUNTED, countedOf, LOOKED_AT } from "./counts";
import { greatestOf, inOrder, newestFrom, newestOf, startingAt } from "./newest";
import { partsOf, type Search, searchOf } from "./search";

/** The messages as an operator sees them. */
export class MessageLists {
  constructor(private readonly db: Database) {}

  async list(query: ListQuery, limit: number, countAll = false): Promise<ListedMessages> {
    const search = await searchOf(this.db, query);
    const { messages } = this.db.collections;
    const [docs, total] = await Promise.all([
      // They are not many. Without `sort`, for which a server would read them with their bodies.
      query.ids ? messages.find(search.filter, { without: ["body"] }) : this.#page(search, limit + 1),
      this.#total(search, limit, countAll)
    ]);
    const rows = docs.slice(0, limit).map(decodeListed);
    const last = docs.length > limit ? rows.at(-1) : undefined;
    const next = last && { next: { at: last.at, id: last._id } };
    // The first page that has it all.
    if (!query.cursor && !last) return { rows, total: rows.length, capped: false };
    return { rows, ...total, total: Math.max(total.total, rows.length), ...next };
  }

  /** What the database knows is not counted, where that is more than would be. It may be behind: then it is. */
  async #total(
    search: Search,
    limit: number,
    countAll: boolean
  ): Promise<Pick<ListedMessages, "total" | "capped" | "estimated">> {
    const { statuses, parts, isPlain } = search;
    const upTo = countAll ? countedOf(statuses) : LOOKED_AT;
    // An act on so many at once says how many are left.
    const most = Math.max(upTo, limit + 1);
    const estimated = isPlain && statuses.some(isFinal) ? await this.#estimated(statuses, upTo) : undefined;
    if (estimated !== undefined && estimated > most) return { total: estimated, capped: false, estimated: true };
    const { counted, more } = await (countAll ? this.#count(parts, most) : this.#countNewest(search, most));
    return { total: counted, capped: more };
  }

  /** What no index finds by itself is counted among the newest rows only: of a seldom event all would be read. */
  async #countNewest({ ranges, indexed, parts }: Search, most: number): Promise<Count> {
    const { messages } = this.db.collections;
    if (!indexed) return this.#count(parts, most);
    const counts = await Promise.all(
      indexed.map(async (rows, i): Promise<Count> => {
        const from = await newestFrom(messages, rows, LOOKED_AT);
        const { counted, more } = await messages.count(startingAt(ranges[i] as Filter, from), most);
        return { counted, more: more || from !== undefined };
      })
    );
    return sumOf(counts, most);
  }

  async #page({ filter, ranges, order, isPlain, cursor }: Search, limit: number): Promise<Doc[]> {
    const { messages } = this.db.collections;
    const read = order === "at" ? newestOf : greatestOf;
    const pages = await Promise.all(ranges.map(range => read(messages, range, limit, cursor)));
    const page = pages.length === 1 ? (pages[0] as Doc[]) : inOrder(pages.flat()).slice(0, limit);
    // All of a few rows: the instant of one that cannot be read may be no instant, and in no range.
    return isPlain && !cursor && page.length < limit
      ? inOrder(await messages.find(filter, { limit, without: ["body"] }))
      : page;
  }

  /** All rows but those of the other statuses; undefined = there are too many of these. */
  async #estimated(statuses: Status[], upTo: number): Promise<number | undefined> {
    const { messages } = this.db.collections;
    const others = partsOf(STATUSES.filter(status => !statuses.includes(status))).map(status => ({ status }));
    const [all, { counted, more }] = await Promise.all([messages.estimate(), this.#count(others, upTo)]);
    return more ? undefined : all - counted;
  }

  async #count(parts: Filter[], limit: number): Promise<Count> {
    const { messages } = this.db.collections;
    return sumOf(await Promise.all(parts.map(part => messages.count(part, limit))), limit);
  }

  async stats(most = Infinity): Promise<StoreStats> {
    const { messages, parked } = this.db.collections;
    const [parkedCount, oldest, ...counts] = await Promise.all([
      parked.count(ANY_TIME, Math.min(COUNTED.live, most)),
      this.oldest(),
      ...STATUSES.map(status => messages.count({ status }, Math.min(countedOf([status]), most)))
    ]);
    const of = Object.fromEntries(STATUSES.map((status, i) => [status, counts[i]])) as Record<Status, Count>;
    const byStatus = Object.fromEntries(STATUSES.map(status => [status, of[status].counted])) as Record<Status, number>;
    const more = STATUSES.filter(status => of[status].more);
    const [only] = more;
    const others = STATUSES.reduce((sum, each) => sum + (each === only ? 0 : byStatus[each]), 0);
    const rest = only && isFinal(only) && more.length === 1 ? (await messages.estimate()) - others : 0;
    const isKnown = only !== undefined && rest > byStatus[only];
    if (isKnown) byStatus[only] = rest;
    return {
      byStatus,
      parked: parkedCount.counted,
      capped: [...(isKnown ? [] : more), ...(parkedCount.more ? (["parked"] as const) : [])],
      estimated: isKnown ? [only] : [],
      oldestPendingAt: oldest.pending,
      oldestPublishedAt: oldest.published,
      oldestDeadAt: oldest.dead
    };
  }

  async oldest(): Promise<Oldest> {
    const statuses = [STATUS.pending, STATUS.published, STATUS.dead];
    const [pending, published, dead] = await Promise.all(statuses.map(status => this.#oldest(status)));
    return { pending, published, dead };
  }

  async #oldest(status: Status): Promise<Date | undefined> {
    const [doc] = await this.db.collections.messages.find(
      // A row without an instant is unreadable, and would come first.
      { status, at: { $gt: EPOCH } },
      { sort: { at: 1 }, limit: 1, fields: ["at"] }
    );
    return doc?.at as Date | undefined;
  }
}

function sumOf(counts: Count[], limit: number): Count {
  const sum = counts.reduce((sum, { counted }) => sum + counted, 0);
  return { counted: Math.min(sum, limit), more: sum > limit || counts.some(({ more }) => more) };
}
