import type { ReliableError } from "../../errors";
import type { BulkCursor } from "../../message/bulk";
import { STATUS } from "../../message/lifecycle";
import type { ListedMessage, Note } from "../../message/message";
import type { Discarded } from "../../message/records";
import type { BulkMessageStore, BulkScope, BulkTally, KeptPage } from "../bulk-store";
import type { Position } from "../store-records";
import { removeBodies } from "./bodies";
import { decodeListed } from "./codec";
import { type Count, type Database, type Doc, EPOCH, type Filter, type Operation } from "./collection";
import { COUNTED } from "./counts";
import { inboxRowsOf } from "./inbox";
import { keptFrom } from "./kept";
import { stirLanes } from "./lane-prune";
import { resolving, retrying } from "./operations";
import { groupIdentical, hasNone, isExactly, waitsForNone } from "./rows";
import { searchOf } from "./search";

/** What no act needs; notes and failures are most of such a row. */
const UNREAD = ["body", "failures", "notes", "meta", "headers", "source", "origin"];

/** Statuses in which a retried message has come to its end. */
const ENDED = [STATUS.consumed, STATUS.resolved];

/**
 * The messages of bulk acts. Each is changed by a conditional write of its own: it is dead, has died before the bulk act
 * began, for the groups that were seen. A note that names the bulk act (of a discarded one: the record in `discarded`)
 * stays, so that it can be told later, by any process, what was done: answers that are lost, and pages that a dead
 * process has left, are counted by it.
 */
export class BulkMessages implements BulkMessageStore {
  constructor(private readonly db: Database) {}

  async count(scope: BulkScope): Promise<Count> {
    return this.db.collections.messages.count(await this.#filterOf(scope), COUNTED.live);
  }

  async select(scope: BulkScope, cursor: BulkCursor | undefined, limit: number): Promise<ListedMessage[]> {
    const filter = await this.#filterOf(scope, cursor);
    const docs = await this.db.collections.messages.find(filter, { sort: { at: 1 }, limit, without: UNREAD });
    return docs.map(decodeListed);
  }

  async done({ bulk, act }: BulkScope, ids: string[]): Promise<Set<string>> {
    const { messages, discarded } = this.db.collections;
    if (!ids.length) return new Set();
    const rows = await messages.find({ _id: { $in: ids } }, { fields: ["notes"] });
    if (act === "discard") {
      const there = new Set(rows.map(({ _id }) => _id));
      const records = await discarded.find({ id: { $in: ids }, of: bulk }, { fields: ["id"] });
      const isThere = ({ id }: Doc) => there.has(id as string);
      // It was not deleted, so there is nothing to tell of it.
      const untrue = records.filter(isThere).map(({ _id }) => _id);
      if (untrue.length) await discarded.remove({ _id: { $in: untrue }, of: bulk });
      return new Set(records.filter(record => !isThere(record)).map(({ id }) => id as string));
    }
    const isOurs = ({ notes }: Doc) => Array.isArray(notes) && (notes as Note[]).some(note => note.bulk === bulk);
    return new Set(rows.filter(isOurs).map(({ _id }) => _id));
  }

  async retry(scope: BulkScope, messages: ListedMessage[], given: Note): Promise<Set<string>> {
    const note = { ...given, bulk: scope.bulk };
    const operations = messages.map(message => retrying(message, given.at, note));
    const marked = ({ filter, change }: Operation): Operation => ({
      filter: { ...filter, ...stillOf(scope) },
      change: { ...change, $set: { ...change.$set, bulk: scope.bulk } }
    });
    const free = operations.map(([first]) => marked(first));
    if ((await this.#write(free)) === messages.length) return idsOf(messages);
    await this.#write(operations.flatMap(([, swept, again]) => [marked(swept), marked(again)]));
    return this.done(scope, [...idsOf(messages)]);
  }

  async resolve(scope: BulkScope, messages: ListedMessage[], given: Note): Promise<Set<string>> {
    const note = { ...given, bulk: scope.bulk };
    const operations = messages
      .flatMap(message => resolving(message, note))
      .map(({ filter, change }) => ({ filter: { ...filter, ...stillOf(scope) }, change }));
    if ((await this.#write(operations)) === messages.length) return idsOf(messages);
    return this.done(scope, [...idsOf(messages)]);
  }

  async discard(scope: BulkScope, messages: ListedMessage[], records: Discarded[]): Promise<Set<string>> {
    const { messages: rows, bodies, discarded, inbox } = this.db.collections;
    const all = { _id: { $in: messages.map(({ _id }) => _id) } };
    const found = await rows.find(all, { fields: ["bodyId", "waiting", "groups", "order"] });
    await stirLanes(this.db, found);
    const there = new Set(found.map(({ _id }) => _id));
    const kept = await discarded.insertEach(records.map(record => ({ ...record })));
    // Of a try that died between record and deletion: this one is by another human, or for another reason.
    const earlier = records.filter(({ id }, i) => kept[i] === false && there.has(id));
    await discarded.bulk(
      earlier.map(({ _id, at, by, note, of }) => ({ filter: { _id }, change: { $set: { at, by, note, of } } }))
    );
    // What is not recorded is not deleted.
    const ended = new Set(found.filter(waitsForNone).map(({ _id }) => _id));
    const recorded = messages.filter(({ _id }, i) => typeof kept[i] === "boolean" && ended.has(_id));
    await inbox.insertEach(inboxRowsOf(found, this.db.now()));
    let removed = 0;
    for (const same of groupIdentical(recorded, ({ failed }) => failed)) {
      const [{ failed }] = same as [ListedMessage];
      removed += await rows.remove({
        _id: { $in: same.map(({ _id }) => _id) },
        status: STATUS.dead,
        ...isExactly("failed", failed),
        ...hasNone("waiting"),
        ...stillOf(scope)
      });
    }
    if (removed === messages.length) {
      await removeBodies(bodies, found);
      return idsOf(messages);
    }
    const done = await this.done(scope, [...idsOf(messages)]);
    await removeBodies(
      bodies,
      found.filter(({ _id }) => done.has(_id))
    );
    return done;
  }

  kept(from: Date, limit: number, after?: Position): Promise<KeptPage> {
    return keptFrom(this.db, from, limit, after);
  }

  async tally(bulk: string): Promise<BulkTally> {
    const { messages } = this.db.collections;
    const [ended, dead] = await Promise.all(
      [{ $in: ENDED }, STATUS.dead].map(status => messages.count({ bulk, status }, COUNTED.live))
    );
    const { counted: handled, more } = ended as Count;
    const { counted: failedAgain, more: moreDead } = dead as Count;
    return { handled, failedAgain, capped: more || moreDead };
  }

  async outcomes(bulk: string, limit: number, since = EPOCH): Promise<{ seen: number; dead: number; since: Date }> {
    const { messages } = this.db.collections;
    const pages = await Promise.all(
      [...ENDED, STATUS.dead].map(status =>
        messages.find({ bulk, status, at: { $gte: since } }, { sort: { at: -1 }, limit, fields: ["status", "at"] })
      )
    );
    const last = pages
      .flat()
      .sort((a, b) => (b.at as Date).getTime() - (a.at as Date).getTime())
      .slice(0, limit);
    const dead = last.filter(({ status }) => status === STATUS.dead).length;
    return { seen: last.length, dead, since: last.length < limit ? since : (last.at(-1)?.at as Date) };
  }

  async #filterOf(scope: BulkScope, cursor?: BulkCursor): Promise<Filter> {
    const { act, bulk, query } = scope;
    // Bounded below, too: see `collection.ts`.
    const { after = EPOCH, before } = query;
    const from = cursor && cursor.at > after ? cursor.at : after;
    const { _id, ...filter } = (await searchOf(this.db, { ...query, after: from, before })).filter;
    const left = cursor?.left.length ? { $nin: cursor.left } : {};
    const ids = { ...(_id as object | undefined), ...left };
    return {
      ...filter,
      ...(Object.keys(ids).length && { _id: ids }),
      status: STATUS.dead,
      // By a clock that is behind it may seem to have died before, again.
      bulk: { $ne: bulk },
      ...(act === "discard" && hasNone("waiting"))
    };
  }

  /** What is refused is not done; how many are done is seen by the number. */
  async #write(operations: Operation[]): Promise<number> {
    try {
      return await this.db.collections.messages.bulk(operations);
    } catch (error) {
      // What is refused for other reasons, as for missing rights, is refused for all of them.
      if ((error as ReliableError).type !== "RELIABLE_STORE_REFUSED") throw error;
      return -1;
    }
  }
}

function stillOf({ bulk, query }: BulkScope): Filter {
  const { after = EPOCH, before } = query;
  return { bulk: { $ne: bulk }, at: { $gte: after, ...(before && { $lt: before }) } };
}

function idsOf(messages: ListedMessage[]): Set<string> {
  return new Set(messages.map(({ _id }) => _id));
}
