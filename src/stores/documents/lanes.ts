import type { ReliableError } from "../../errors";
import { STATUS } from "../../message/lifecycle";
import { ANY_GROUP, type Message } from "../../message/message";
import { BEHIND_AT, comingOf, numberOf, type Order, placeOf, placesOf, placesToCome } from "../../message/order";
import type { HeldKey, LaneEnd, LaneStore, Turn, Unnamed } from "../lane-store";
import type { MessageStore } from "../store";
import type { InsertOutcome } from "../store-records";
import { groupOf } from "./codec";
import { type Database, type Doc, EPOCH } from "./collection";
import { heldKeys } from "./held-keys";
import {
  type Entry,
  endsOf,
  entryOf,
  groupByKey,
  isComing,
  isUnnamed,
  keyOfMessage,
  Numbers,
  type Standing,
  takenBy,
  withinOf
} from "./lane-entries";
import {
  announcing,
  groupsInLine,
  IN_LINE_FIELDS,
  isGiven,
  isRowInLine,
  type Lane,
  type LaneTurn,
  newLane,
  turnIn,
  turnOf,
  versionOf
} from "./lane-rows";
import { LaneTurns } from "./lane-turns";
import { noted, OPEN, recipientsNote } from "./rows";

/** From this pass on places are announced whatever others do. */
const PLAIN_FROM = 3;
/** A lane in which somebody has his turn for longer is looked at so often. */
const LOOK_AGAIN_MS = 120_000;
/** Rows without a number that are looked for at a time, of one key. */
const MAX_COMING = 1000;

/** See `LaneStore`. */
export class DocumentLanes implements LaneStore {
  readonly #turns: LaneTurns;

  constructor(
    private readonly db: Database,
    private readonly messages: Pick<MessageStore, "insert">
  ) {
    this.#turns = new LaneTurns(db);
  }

  async enter(messages: Message[]): Promise<{ outcomes: (InsertOutcome | ReliableError)[]; turns: Turn[] }> {
    const { lanes, turns } = await this.#expected(messages.map(keyOfMessage));
    const numbers = new Numbers(lanes);
    // One instant for all: by it those are told that have no turn.
    const dueAt = new Date(Math.max(...messages.map(message => message.dueAt?.getTime() ?? 0)));
    for (const message of messages) {
      const key = keyOfMessage(message);
      message.place = placeOf(key, numbers.next(key));
      if (lanes.get(key)?.unnamed) message.waiting = [ANY_GROUP];
      // A sweep finds out for whom it is.
      message.dueAt = isUnnamed(message) ? this.db.now() : dueAt;
    }
    const outcomes = await this.messages.insert(messages);
    const entries = messages.flatMap((message, i) => {
      const outcome = outcomes[i] as InsertOutcome | ReliableError;
      if (outcome instanceof Error) return [];
      // An insert that is repeated for want of an answer finds its own row.
      return entryOf(outcome.stored ? message : outcome.existing);
    });
    turns.push(...(await this.#lineUp(entries, lanes)));
    await this.#putBehind(entries, turns, dueAt);
    return { outcomes, turns };
  }

  /**
   * Several of one transaction have one number, which the first of them is given: so they are in their order, whoever
   * else is giving numbers to some of them at this moment.
   */
  async place(messages: Standing[]): Promise<Turn[]> {
    const coming = messages.filter(isComing);
    if (!coming.length) return [];
    const { messages: rows } = this.db.collections;
    const lanes = await this.#turns.lanes(coming.map(keyOfMessage));
    const numbers = new Numbers(lanes);
    const groups = new Map<string, Standing[]>();
    for (const message of coming) {
      const { together } = comingOf(message.place as string);
      groups.set(together, [...(groups.get(together) ?? []), message]);
    }
    const inOrder = [...groups.values()].map(group => group.toSorted((a, b) => withinOf(a) - withinOf(b)));
    const planned = new Map(inOrder.map(group => [group, numbers.next(keyOfMessage(group[0] as Standing))]));
    const placing = (message: Standing, number: number) => ({
      filter: { _id: message._id, place: message.place },
      change: { $set: { place: placeOf(keyOfMessage(message), number, withinOf(message)) } }
    });
    await rows.bulk([...planned].map(([[first], number]) => placing(first as Standing, number)));
    const several = inOrder.filter(({ length }) => length > 1);
    const firsts = await this.#turns.rows(several.map(([first]) => (first as Standing)._id));
    await rows.bulk(
      several.flatMap(group => {
        const [first, ...others] = group as [Standing, ...Standing[]];
        const number = numberOf(firsts.get(first._id)?.place as string | undefined) ?? planned.get(group);
        return others.map(message => placing(message, number as number));
      })
    );
    const placed = await this.#turns.rows(coming.map(({ _id }) => _id));
    return this.#lineUp([...placed.values()].flatMap(entryOf), lanes);
  }

  async unnamed(keys: string[], limit: number): Promise<Unnamed[]> {
    const pages = await Promise.all(
      [...new Set(keys)].map(key =>
        this.db.collections.messages.find(
          { place: placesOf(key, Number.MAX_SAFE_INTEGER), waiting: ANY_GROUP, ...OPEN },
          { sort: { place: 1 }, limit, fields: ["event", "only", "order"] }
        )
      )
    );
    return pages.flat().map(({ _id: id, event, only, order }) => ({
      key: (order as Order).key,
      id,
      event: event as string,
      ...(only !== undefined && { groups: only as string[] })
    }));
  }

  async name(named: { key: string; id: string; groups: string[] }[]): Promise<void> {
    const { messages, lanes } = this.db.collections;
    const before = await this.#turns.lanes(named.map(({ key }) => key));
    for (const { id, groups } of named) {
      const change = { $set: { waiting: groups }, $push: noted(recipientsNote(this.db.now(), groups, [ANY_GROUP])) };
      await messages.update({ _id: id, ...OPEN, waiting: [ANY_GROUP] }, change);
    }
    const left = new Set((await this.unnamed([...before.keys()], 1)).map(({ key }) => key));
    const free = [...before.values()].filter(({ _id }) => !left.has(_id));
    await lanes.bulk(
      free.map(lane => ({ filter: { _id: lane._id, ...versionOf(lane) }, change: { $unset: { unnamed: true } } }))
    );
  }

  async expect(keys: string[], until: Date): Promise<void> {
    const change = { $max: { expects: until, at: this.db.now() } };
    await this.db.collections.lanes.bulk([...new Set(keys)].map(_id => ({ filter: { _id }, change, upsert: true })));
  }

  advance(ends: LaneEnd[]): Promise<Turn[]> {
    return this.#turns.advance(ends);
  }

  async turnsOf(messages: Standing[]): Promise<{ turns: Turn[]; given: Turn[] }> {
    const given = await this.place(messages);
    const rows = messages.some(isComing) ? await this.#turns.rows(messages.map(({ _id }) => _id)) : new Map();
    const entries = messages.flatMap(message => entryOf({ ...message, ...rows.get(message._id) }));
    let lanes = await this.#turns.lanes(entries.map(({ key }) => key));
    // Its emit has died before it had announced it.
    const unannounced = entries.filter(({ key, at }) => at > (lanes.get(key)?.top ?? 0));
    if (unannounced.length) {
      given.push(...(await this.#lineUp(unannounced, lanes)));
      lanes = await this.#turns.lanes(entries.map(({ key }) => key));
    }
    const nobodys = endsOf(entries).filter(({ key, group }) => !turnIn(lanes.get(key), group));
    if (nobodys.length) {
      given.push(...(await this.advance(nobodys)));
      lanes = await this.#turns.lanes(entries.map(({ key }) => key));
    }
    await this.#tellLate(entries, lanes);
    const turns = entries.flatMap(({ id, key, groups, bytes }) =>
      groups.flatMap(group => {
        const turn = turnIn(lanes.get(key), group);
        return turn?.id === id ? turnOf(key, group, turn, bytes) : [];
      })
    );
    return { turns, given };
  }

  async look(limit: number): Promise<{ turns: Turn[]; more: boolean }> {
    const now = this.db.now();
    const due = { dueAt: { $gte: EPOCH, $lte: now } };
    const lanes = (await this.db.collections.lanes.find(due, { sort: { dueAt: 1 }, limit })) as Lane[];
    const holders = await this.#turns.rows(
      lanes.flatMap(({ turns = {} }) => Object.values(turns).flatMap(({ id }) => id || []))
    );
    const waiting: Turn[] = [];
    const ends: LaneEnd[] = [];
    for (const lane of lanes)
      for (const group of await this.#groupsOf(lane)) {
        const turn = turnIn(lane, group);
        const row = turn && holders.get(turn.id);
        if (!turn || !isRowInLine(row, group)) ends.push({ key: lane._id, group });
        // It has its turn, and whoever gave it has died before it was due.
        else if (isBehind(row as Doc)) waiting.push(turnOf(lane._id, group, turn, Number(row?.bytes)));
      }
    const again = new Date(now.getTime() + LOOK_AGAIN_MS);
    await this.db.collections.lanes.bulk(
      lanes.map(lane => {
        const isBusy = Object.values(lane.turns ?? {}).some(({ id }) => id);
        const change = isBusy ? { $set: { dueAt: again } } : { $unset: { dueAt: true as const } };
        return { filter: { _id: lane._id, ...versionOf(lane) }, change };
      })
    );
    return { turns: [...waiting, ...(await this.advance(ends))], more: lanes.length === limit };
  }

  async wake(ids: string[], at: Date): Promise<void> {
    const filter = { _id: { $in: ids }, ...OPEN, claim: { $exists: false }, dueAt: BEHIND_AT };
    if (ids.length) await this.db.collections.messages.update(filter, { $set: { dueAt: at } });
  }

  held(limit: number, key?: string): Promise<{ keys: HeldKey[]; more: boolean }> {
    return heldKeys(this.db.collections.messages, limit, key);
  }

  async prune(before: Date, limit: number): Promise<boolean> {
    const { lanes } = this.db.collections;
    // One in which somebody has his turn is due some time.
    const old = { at: { $gte: EPOCH, $lt: before }, dueAt: { $exists: false } };
    const docs = await lanes.find(old, { limit, fields: ["_id"] });
    if (docs.length) await lanes.remove({ ...old, _id: { $in: docs.map(({ _id }) => _id) } });
    return docs.length === limit;
  }

  /** The lanes, after what was committed without a place before has its own. */
  async #expected(keys: string[]): Promise<{ lanes: Map<string, Lane>; turns: Turn[] }> {
    const lanes = await this.#turns.lanes(keys);
    const now = this.db.now();
    const expecting = [...lanes.values()].filter(({ expects }) => expects !== undefined && expects > now);
    const found = await Promise.all(
      expecting.map(({ _id }) =>
        this.db.collections.messages.find(
          { place: placesToCome(_id), status: STATUS.pending },
          { sort: { place: 1 }, limit: MAX_COMING, fields: IN_LINE_FIELDS }
        )
      )
    );
    const coming = found.flat() as unknown as Standing[];
    if (!coming.length) return { lanes, turns: [] };
    const turns = await this.place(coming);
    return { lanes: await this.#turns.lanes(keys), turns };
  }

  /** `lanes`: as they were before the rows had their numbers. Returns the turns that were given by it. */
  async #lineUp(entries: Entry[], lanes: Map<string, Lane>): Promise<Turn[]> {
    if (!entries.length) return [];
    const turns = await this.#announce(entries, lanes);
    const given = new Set(turns.map(({ id, group }) => JSON.stringify([id, group])));
    const others = entries
      .map(entry => ({ ...entry, groups: entry.groups.filter(group => !given.has(JSON.stringify([entry.id, group]))) }))
      .filter(({ groups }) => groups.length);
    if (!others.length) return turns;
    // Who had the turn before may have left before he could see them.
    const now = await this.#turns.lanes(others.map(({ key }) => key));
    const nobodys = endsOf(others).filter(({ key, group }) => !turnIn(now.get(key), group));
    if (nobodys.length) turns.push(...(await this.advance(nobodys)));
    await this.#tellLate(others, now);
    return turns;
  }

  /**
   * Raises the lanes' `top`, and takes the turns that nobody has: nobody is in line then, since whoever empties a lane has
   * looked, and repeats its version.
   */
  async #announce(all: Entry[], asRead: Map<string, Lane>): Promise<Turn[]> {
    const turns: Turn[] = [];
    let entries = all;
    let lanes = asRead;
    const bytes = new Map(all.map(entry => [entry.id, entry.bytes]));
    for (let pass = 0; entries.length; pass++) {
      const now = this.db.now();
      const wanted = [...groupByKey(entries)].map(([key, mine]) => {
        const lane = lanes.get(key);
        const top = Math.max(...mine.map(({ at }) => at));
        const taken = pass < PLAIN_FROM ? takenBy(mine, lane) : new Map<string, LaneTurn>();
        return { key, lane, top, turns: taken, unnamed: mine.some(({ unnamed }) => unnamed) };
      });
      const fresh = wanted.filter(({ lane, turns: taken }) => !lane && taken.size);
      const others = wanted.filter(({ lane, turns: taken }) => lane || !taken.size);
      const inserted = fresh.length
        ? await this.db.collections.lanes.insert(fresh.map(announcement => newLane(announcement, now)))
        : [];
      const operations = others.map(announcement => announcing(announcement, now));
      const matched = operations.length ? await this.db.collections.lanes.bulk(operations) : 0;
      const isDone = matched === operations.length && inserted.every(Boolean);
      lanes = isDone ? lanes : await this.#turns.lanes(wanted.map(({ key }) => key));
      const missed = new Set<string>();
      for (const { key, turns: taken } of wanted) {
        const given = [...taken].every(([group, turn]) => isDone || isGiven(lanes.get(key), group, turn));
        if (!given) missed.add(key);
        else for (const [group, turn] of taken) turns.push(turnOf(key, group, turn, bytes.get(turn.id) ?? 0));
      }
      entries = entries.filter(({ key }) => missed.has(key));
    }
    return turns;
  }

  /** Those that have no turn in any group are due when they have one. */
  async #putBehind(entries: Entry[], turns: Turn[], dueAt: Date): Promise<void> {
    const given = new Set(turns.map(({ id }) => id));
    const ids = entries.filter(({ id, groups }) => groups.length && !given.has(id)).map(({ id }) => id);
    if (!ids.length) return;
    const filter = { _id: { $in: ids }, ...OPEN, claim: { $exists: false }, dueAt };
    await this.db.collections.messages.update(filter, { $set: { dueAt: BEHIND_AT } });
  }

  /** Their numbers are below that of the one that has the turn, which goes on with greater ones. */
  async #tellLate(entries: Entry[], lanes: Map<string, Lane>): Promise<void> {
    const late = entries.filter(({ id, key, at, groups }) =>
      groups.some(group => {
        const turn = turnIn(lanes.get(key), group);
        return turn !== undefined && turn.id !== id && turn.at > at;
      })
    );
    const change = { $set: { late: this.db.now() } };
    const keys = [...new Set(late.map(({ key }) => key))];
    if (keys.length) await this.db.collections.lanes.bulk(keys.map(_id => ({ filter: { _id }, change })));
  }

  /** Those in which somebody has his turn, and those for which the first in line waits. */
  async #groupsOf({ _id: key, top = 0, turns = {} }: Lane): Promise<string[]> {
    const [first] = await this.db.collections.messages.find(
      { place: placesOf(key, top), ...OPEN },
      { sort: { place: 1 }, limit: 1, fields: IN_LINE_FIELDS }
    );
    const busy = Object.keys(turns).filter(path => turns[path]?.id);
    return [...new Set([...busy.map(groupOf), ...(first ? groupsInLine(first as unknown as Standing) : [])])];
  }
}

function isBehind({ dueAt }: Doc): boolean {
  return (dueAt as Date | undefined)?.getTime() === BEHIND_AT.getTime();
}
