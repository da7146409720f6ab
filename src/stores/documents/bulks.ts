import { createHash } from "node:crypto";
import {
  BULK_CHANGES_KEPT,
  BULK_STATE,
  type Bulk,
  type BulkChange,
  type BulkPage,
  type BulkProgress,
  type BulkState,
  isUnderWay
} from "../../message/bulk";
import type { BulkClaims, BulkEnd, BulkStore } from "../bulk-store";
import type { Listed } from "../store-records";
import type { Database, Doc, Filter } from "./collection";
import { ANY_TIME, LOOKED_AT, totalOf } from "./counts";

const { running, paused, stopping } = BULK_STATE;

/** A start that is not finished by then has died: longer than any command takes. */
const STARTING_MS = 60_000;

/** Those under way at once are few; more than these nobody works at. */
const MAX_UNDER_WAY = 1000;

const GIVEN_BACK = { claim: true, until: true } as const;

/**
 * Bulk acts, a document each. Beside them stands one document per act and filter, under an `_id` made of both: it names
 * the last one begun, and so keeps a second one from beginning beside it. Nothing has to be taken away at the end: what
 * it names tells whether it is under way.
 *
 *   process dies after that document    no bulk act of this id comes; after STARTING_MS the next one takes its place
 *   two begin at the same time          the insert, or the change of the old name, succeeds for one of them
 */
export class DocumentBulks implements BulkStore {
  constructor(private readonly db: Database) {}

  async begin(bulk: Bulk): Promise<Pick<Bulk, "_id" | "by" | "at"> | undefined> {
    const { bulks } = this.db.collections;
    const _id = `key:${createHash("sha256").update(bulk.key).digest("hex")}`;
    const name = { of: bulk._id, by: bulk.by, since: bulk.at };
    const [first] = await bulks.insert([{ _id, ...name }]);
    if (!first) {
      const [named] = (await bulks.find({ _id })) as unknown as { of: string; by: string; since: Date }[];
      if (named && named.of !== bulk._id) {
        const { of, by, since } = named;
        const other = await this.find(of);
        if (other ? isUnderWay(other) : bulk.at.getTime() - since.getTime() < STARTING_MS)
          return other ?? { _id: of, by, at: since };
        if (!(await bulks.update({ _id, of }, { $set: name }))) return { _id: of, by, at: since };
      }
    }
    await bulks.insert([{ ...bulk }]);
    return undefined;
  }

  async claim({
    claim,
    now,
    until,
    most
  }: {
    claim: string;
    now: Date;
    until: Date;
    most: number;
  }): Promise<BulkClaims> {
    const { bulks } = this.db.collections;
    const active = { state: { $in: [running, stopping] } };
    const docs = await bulks.find(active, { limit: MAX_UNDER_WAY, fields: ["claim", "until"] });
    const isFree = ({ until: end }: Doc) => end === undefined || (end as Date) <= now;
    const claimed: Bulk[] = [];
    const ends = docs.filter(doc => !isFree(doc)).map(doc => (doc.until as Date).getTime());
    for (const { _id, claim: old = { $exists: false }, until: end = { $exists: false } } of docs.filter(isFree)) {
      if (claimed.length >= most) break;
      // Not if its holder has renewed it meanwhile.
      const seen = { _id, ...active, claim: old, until: end };
      if (!(await bulks.update(seen, { $set: { claim, until } }))) continue;
      const bulk = await this.find(_id);
      if (bulk?.claim === claim) claimed.push(bulk);
    }
    return { claimed, ...(ends.length && { nextAt: new Date(Math.min(...ends)) }) };
  }

  async planned({ perSecond, ...bulk }: Bulk, page: BulkPage, until: Date): Promise<boolean> {
    const known = { ...held(bulk), state: running, perSecond };
    return (await this.db.collections.bulks.update(known, { $set: { page, until } })) > 0;
  }

  async progressed(bulk: Bulk, progress: BulkProgress, until: Date): Promise<boolean> {
    const change = { $set: { ...progress, until }, $unset: { page: true as const } };
    return (await this.db.collections.bulks.update(held(bulk), change)) > 0;
  }

  async released(bulk: Pick<Bulk, "_id" | "claim">): Promise<void> {
    await this.db.collections.bulks.update(held(bulk), { $unset: GIVEN_BACK });
  }

  async ended(bulk: Pick<Bulk, "_id" | "claim">, { state, endedAt, why }: BulkEnd): Promise<boolean> {
    const $set = { state, endedAt, ...(why !== undefined && { why }) };
    const $unset = { ...GIVEN_BACK, page: true as const };
    return (await this.db.collections.bulks.update(held(bulk), { $set, $unset })) > 0;
  }

  pause(id: string, change: BulkChange): Promise<boolean> {
    return this.#change(id, [running], { state: paused }, change);
  }

  resume(id: string, change: BulkChange): Promise<boolean> {
    return this.#change(id, [paused], { state: running }, change);
  }

  stop(id: string, change: BulkChange): Promise<boolean> {
    return this.#change(id, [running, paused], { state: stopping }, change);
  }

  async pace(id: string, perSecond: number, change: BulkChange): Promise<boolean> {
    // Told twice it is one change. What was measured was measured at another rate.
    const other = { perSecond: { $ne: perSecond } };
    if (await this.#change(id, [running, paused], { perSecond }, change, { other, $unset: { pace: true } }))
      return true;
    const [same] = await this.db.collections.bulks.find(
      { _id: String(id), state: { $in: [running, paused] }, perSecond },
      { fields: ["_id"] }
    );
    return same !== undefined;
  }

  async #change(
    id: string,
    from: BulkState[],
    $set: object,
    change: BulkChange,
    { other = {}, $unset }: { other?: Filter; $unset?: Record<string, true> } = {}
  ): Promise<boolean> {
    const changed = await this.db.collections.bulks.update(
      { _id: String(id), state: { $in: from }, ...other },
      {
        $set: { ...$set },
        ...($unset && { $unset }),
        $push: { changes: { $each: [change], $slice: -BULK_CHANGES_KEPT } }
      }
    );
    return changed > 0;
  }

  async find(id: string): Promise<Bulk | undefined> {
    // The documents beside the bulk acts have no state.
    const [doc] = await this.db.collections.bulks.find({ _id: String(id), state: { $exists: true } });
    return doc as unknown as Bulk | undefined;
  }

  async list(offset: number, limit: number): Promise<Listed<Bulk>> {
    const { bulks } = this.db.collections;
    const [rows, count] = await Promise.all([
      bulks.find(ANY_TIME, { sort: { at: -1, _id: -1 }, skip: offset, limit, without: ["page", "cursor"] }),
      bulks.count(ANY_TIME, LOOKED_AT)
    ]);
    return { rows: rows as unknown as Bulk[], ...totalOf(count, rows.length, offset, limit) };
  }

  async replays(limit: number): Promise<Pick<Bulk, "_id" | "filter">[]> {
    const page = { sort: { at: -1, _id: -1 } as const, limit, fields: ["filter"] };
    const docs = await this.db.collections.bulks.find({ ...ANY_TIME, act: "replay" }, page);
    return docs as unknown as Pick<Bulk, "_id" | "filter">[];
  }

  async underWay(): Promise<Bulk[]> {
    const page = { limit: MAX_UNDER_WAY, without: ["page", "cursor"] };
    const docs = await this.db.collections.bulks.find({ state: { $in: [running, paused, stopping] } }, page);
    return docs as unknown as Bulk[];
  }
}

function held({ _id, claim }: Pick<Bulk, "_id" | "claim">): Filter {
  // Without one nothing is held.
  return { _id, claim: claim ?? "" };
}
