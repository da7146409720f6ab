import type { ReliableError } from "../../errors";
import { ANY_GROUP, type Message } from "../../message/message";
import { BEHIND_AT, numberOf, placeOf } from "../../message/order";
import type { Claim, Entered, LaneEnd, LaneStore, Named, Turn, Unnamed } from "../lane-store";
import type { MessageStore } from "../store";
import type { InsertOutcome } from "../store-records";
import { groupOf } from "./codec";
import type { Database } from "./collection";
import { DocumentHeldKeys } from "./held-keys";
import {
  type Entry,
  endsOf,
  entryOf,
  firstOf,
  groupByKey,
  isComing,
  isUnnamed,
  keyOfMessage,
  Numbers,
  type Standing,
  takenBy,
  together,
  withinOf
} from "./lane-entries";
import { look } from "./lane-look";
import { allNamed, nameRows, unnamed } from "./lane-names";
import { pruneLanes } from "./lane-prune";
import {
  announcing,
  giving,
  isGiven,
  isRowInLine,
  isUnchanged,
  type Lane,
  type LaneTurn,
  lastIn,
  newLane,
  nextTurn,
  turnIn,
  turnOf
} from "./lane-rows";
import { notAnnounced, unannounced } from "./lane-standing";
import { LaneTurns } from "./lane-turns";
import { OPEN } from "./rows";

/** From this pass on places are announced whatever others do. */
const PLAIN_FROM = 3;
/** What is left then is said at the next naming. */
const NAME_PASSES = 4;

/** See `LaneStore`. */
export class DocumentLanes extends DocumentHeldKeys implements LaneStore {
  readonly #turns: LaneTurns;

  constructor(
    db: Database,
    private readonly messages: Pick<MessageStore, "insert">
  ) {
    super(db);
    this.#turns = new LaneTurns(db);
  }

  async enter(messages: Message[], claim?: Claim): Promise<Entered> {
    const { lanes, turns } = await this.#expected(messages.map(keyOfMessage));
    const ended = await this.#ended(lanes.values());
    const numbers = new Numbers(lanes);
    // One instant for all: by it those are told that have no turn.
    const dueAt = new Date(Math.max(...messages.map(message => message.dueAt?.getTime() ?? 0)));
    for (const message of messages) {
      const key = keyOfMessage(message);
      // Of a try before this one.
      delete message.claim;
      message.place = placeOf(key, numbers.next(key));
      if (lanes.get(key)?.unnamed) message.waiting = [ANY_GROUP];
      // A sweep finds out for whom it is.
      message.dueAt = isUnnamed(message) ? this.db.now() : dueAt;
    }
    const first = claim ? firstOf(messages.flatMap(entryOf), lanes, ended) : new Set<string>();
    for (const message of messages) if (claim && first.has(message._id)) claimFor(message, claim);
    const outcomes = await this.messages.insert(messages);
    const entries = messages.flatMap((message, i) => {
      const outcome = outcomes[i] as InsertOutcome | ReliableError;
      if (outcome instanceof Error) return [];
      // An insert that is repeated for want of an answer finds its own row.
      return entryOf(outcome.stored ? message : outcome.existing);
    });
    turns.push(...(await this.#lineUp(entries, lanes, ended)));
    const given = new Set(turns.map(({ id }) => id));
    const claimed = messages.filter(({ _id }, i) => {
      const outcome = outcomes[i] as InsertOutcome | ReliableError;
      if (!claim || !given.has(_id) || outcome instanceof Error) return false;
      return outcome.stored ? first.has(_id) : outcome.existing.claim === claim.claim;
    });
    await this.#putBehind(entries, given, dueAt, claim);
    return { outcomes, turns, claimed };
  }

  /**
   * Of several of one transaction the first is numbered first, and its number says those of the others: so they are in
   * their order, whoever else is numbering some of them at this moment. One whose first has its number already has a
   * greater one: the lane is read after it was found, and what it is within is added.
   */
  async place(keys: string[]): Promise<Turn[]> {
    const before = await this.#turns.lanes(keys);
    // In one look: somebody may be numbering some of them, and has not announced them yet.
    const standing = await notAnnounced(this.db, keys, before);
    const turns = await this.#lineUp(standing.flatMap(entryOf), before);
    const found = standing.filter(isComing);
    if (!found.length) return turns;
    const { messages: rows } = this.db.collections;
    const lanes = await this.#turns.lanes(found.map(keyOfMessage));
    const numbers = new Numbers(lanes);
    const planned = together(found).map(group => {
      const [first] = group as [Standing, ...Standing[]];
      const last = group.at(-1) as Standing;
      return { group, first, from: numbers.next(keyOfMessage(first), withinOf(last) + 1) };
    });
    const placing = (message: Standing, from: number) => ({
      filter: { _id: message._id, place: message.place },
      change: { $set: { place: placeOf(keyOfMessage(message), from + withinOf(message)) } }
    });
    await rows.bulk(planned.map(({ first, from }) => placing(first, from)));
    const several = planned.filter(({ group }) => group.length > 1);
    const firsts = await this.#turns.rows(several.map(({ first }) => first._id));
    await rows.bulk(
      several.flatMap(({ group, first, from }) => {
        const number = numberOf(firsts.get(first._id)?.place as string | undefined);
        const as = number === undefined ? from : number - withinOf(first);
        return group.slice(1).map(message => placing(message, as));
      })
    );
    const placed = await this.#turns.rows(found.map(({ _id }) => _id));
    turns.push(...(await this.#lineUp([...placed.values()].flatMap(entryOf), lanes)));
    return turns;
  }

  unnamed(keys: string[], limit: number): Promise<Unnamed[]> {
    return unnamed(this.db, keys, limit);
  }

  async name(named: Named[]): Promise<Turn[]> {
    await nameRows(this.db, named);
    const ends = named.flatMap(({ key, groups }) => groups.map(group => ({ key, group })));
    const turns: Turn[] = [];
    for (let pass = 0; pass < NAME_PASSES; pass++) {
      // Nobody takes a turn before that of those who were named is given: the lane says meanwhile that some have no name.
      const lanes = await this.#turns.lanes(named.map(({ key }) => key));
      turns.push(...(await this.#turns.advance(ends)));
      if (await allNamed(this.db, lanes)) break;
    }
    return turns;
  }

  async expect(keys: string[], until: Date): Promise<Turn[]> {
    const change = { $max: { expects: until, idle: this.db.now() } };
    await this.db.collections.lanes.bulk([...new Set(keys)].map(_id => ({ filter: { _id }, change, upsert: true })));
    return this.place(keys);
  }

  advance(ends: LaneEnd[]): Promise<Turn[]> {
    return this.#turns.advance(ends, { had: true });
  }

  async turnsOf(messages: Standing[]): Promise<{ turns: Turn[]; given: Turn[] }> {
    const unplaced = messages.filter(isComing);
    const given = await this.place(unplaced.map(keyOfMessage));
    const rows = unplaced.length ? await this.#turns.rows(messages.map(({ _id }) => _id)) : new Map();
    const entries = messages.flatMap(message => entryOf({ ...message, ...rows.get(message._id) }));
    const read = () => this.#turns.lanes(entries.map(({ key }) => key));
    let lanes = await read();
    // Its emit has died before it had announced it.
    const early = entries.filter(({ key, at }) => at > (lanes.get(key)?.top ?? 0));
    if (early.length) {
      given.push(...(await this.#lineUp(await this.#upTo(early, lanes), lanes)));
      lanes = await read();
    }
    // One with the number of another may never have been announced.
    await this.#tellLate(entries, lanes, 1);
    if (await this.#takeAgain(entries, lanes)) lanes = await read();
    const others = entries.flatMap(({ id, key, groups }) =>
      groups.filter(group => turnIn(lanes.get(key), group)?.id !== id).map(group => ({ key, group }))
    );
    if (others.length) {
      given.push(...(await this.#turns.advance(others, { stands: true })));
      lanes = await read();
    }
    const turns = entries.flatMap(({ id, key, groups, bytes }) =>
      groups.flatMap(group => {
        const turn = turnIn(lanes.get(key), group);
        return turn?.id === id ? turnOf(key, group, turn, bytes) : [];
      })
    );
    return { turns, given };
  }

  /**
   * One that had left for good and is in line again may find the turn that it had, while somebody who has seen it gone
   * takes it. So it takes its turn anew, and one of the two has it. False = there is none.
   */
  async #takeAgain(entries: Entry[], lanes: Map<string, Lane>): Promise<boolean> {
    const operations = entries.flatMap(({ id, key, at, back }) => {
      const lane = lanes.get(key);
      const mine = back.filter(group => turnIn(lane, group)?.id === id);
      const again = new Map(mine.map(group => [group, nextTurn(lane, group, id, at, this.#turns.above)]));
      return lane && mine.length ? giving(lane, again, this.db.now()) : [];
    });
    if (operations.length) await this.db.collections.lanes.bulk(operations);
    return operations.length > 0;
  }

  look(now: Date, limit: number): Promise<{ turns: Turn[]; more: boolean }> {
    return look(this.db, this.#turns, now, limit);
  }

  async wake(ids: string[], at: Date): Promise<void> {
    const filter = { _id: { $in: ids }, ...OPEN, claim: { $exists: false }, dueAt: BEHIND_AT };
    if (ids.length) await this.db.collections.messages.update(filter, { $set: { dueAt: at } });
  }

  prune(before: Date, limit: number): Promise<boolean> {
    return pruneLanes(this.db, before, limit);
  }

  /** The lanes, after what was committed without a place before has its own. */
  async #expected(keys: string[]): Promise<{ lanes: Map<string, Lane>; turns: Turn[] }> {
    const lanes = await this.#turns.lanes(keys);
    const now = this.db.now();
    const expecting = [...lanes.values()].filter(({ expects }) => expects !== undefined && expects > now);
    if (!expecting.length) return { lanes, turns: [] };
    const turns = await this.place(expecting.map(({ _id }) => _id));
    return { lanes: await this.#turns.lanes(keys), turns };
  }

  /** Messages that have their turns and are in line no more, each with its group. */
  async #ended(lanes: Iterable<Lane>): Promise<Set<string>> {
    const had = [...lanes].flatMap(lane =>
      Object.entries(lane.turns ?? {}).flatMap(([path, turn]) =>
        turn.id && isUnchanged(lane, groupOf(path), turn) ? { group: groupOf(path), id: turn.id } : []
      )
    );
    const rows = await this.#turns.standing(had.map(({ id }) => id));
    return new Set(had.flatMap(({ group, id }) => (isRowInLine(rows.get(id), group) ? [] : `${group} ${id}`)));
  }

  /** With those before them that are not announced either: one process may have inserted them, in this order. */
  async #upTo(entries: Entry[], lanes: Map<string, Lane>): Promise<Entry[]> {
    const mine = new Set(entries.map(({ id }) => id));
    return [...entries, ...(await unannounced(this.db, entries, lanes)).filter(({ id }) => !mine.has(id))];
  }

  /** `lanes`: as they were before the rows had their numbers. Returns the turns that were given by it. */
  async #lineUp(entries: Entry[], lanes: Map<string, Lane>, ended: ReadonlySet<string> = new Set()): Promise<Turn[]> {
    if (!entries.length) return [];
    const turns = await this.#announce(entries, lanes, ended);
    const given = new Set(turns.map(({ id, group }) => JSON.stringify([id, group])));
    const others = entries
      .map(entry => ({ ...entry, groups: entry.groups.filter(group => !given.has(JSON.stringify([entry.id, group]))) }))
      .filter(({ groups }) => groups.length);
    if (!others.length) return turns;
    await this.#tellLate(others, await this.#turns.lanes(others.map(({ key }) => key)));
    // Who had the turn before may have left before he could see them.
    turns.push(...(await this.#turns.advance(endsOf(others), { stands: true })));
    return turns;
  }

  /**
   * Raises the lanes' `top`, and takes the turns that nobody has (any more), where nobody is in line: the lane's version
   * tells.
   */
  async #announce(all: Entry[], asRead: Map<string, Lane>, ended: ReadonlySet<string>): Promise<Turn[]> {
    const turns: Turn[] = [];
    let entries = all;
    let lanes = asRead;
    const bytes = new Map(all.map(entry => [entry.id, entry.bytes]));
    for (let pass = 0; entries.length; pass++) {
      const now = this.db.now();
      const wanted = [...groupByKey(entries)].map(([key, mine]) => {
        const lane = lanes.get(key);
        const top = Math.max(...mine.map(({ at }) => at));
        const taken =
          pass < PLAIN_FROM
            ? takenBy(mine, lane, pass ? new Set() : ended, this.#turns.above)
            : new Map<string, LaneTurn>();
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
      for (const { key, top, turns: taken, unnamed } of wanted) {
        // Another one may have given the very turns, and announced nothing but their holders.
        const { top: announced = 0, unnamed: told } = lanes.get(key) ?? {};
        const given = [...taken].every(([group, turn]) => isGiven(lanes.get(key), group, turn));
        if (!isDone && !(given && announced >= top && (!unnamed || told))) missed.add(key);
        else for (const [group, turn] of taken) turns.push(turnOf(key, group, turn, bytes.get(turn.id) ?? 0));
      }
      entries = entries.filter(({ key }) => missed.has(key));
    }
    return turns;
  }

  /** Those that have no turn in any group are due when they have one. */
  async #putBehind(entries: Entry[], given: ReadonlySet<string>, dueAt: Date, claim?: Claim): Promise<void> {
    const ids = entries.filter(({ id, groups }) => groups.length && !given.has(id)).map(({ id }) => id);
    if (!ids.length) return;
    const change = { $set: { dueAt: BEHIND_AT } };
    const open = { _id: { $in: ids }, ...OPEN };
    await this.db.collections.messages.update({ ...open, claim: { $exists: false }, dueAt }, change);
    // It was to be theirs, and somebody else was quicker.
    const claimed = claim && { ...open, claim: claim.claim };
    if (claimed) await this.db.collections.messages.update(claimed, { ...change, $unset: { claim: true } });
  }

  /** Their numbers are below that of the one that has the turn, which goes on with greater ones. */
  async #tellLate(entries: Entry[], lanes: Map<string, Lane>, more = 0): Promise<void> {
    const late = entries.flatMap(({ id, key, at, groups }) =>
      groups
        .filter(group => lastIn(lanes.get(key), group) + more > at && turnIn(lanes.get(key), group)?.id !== id)
        .map(group => ({ key, group }))
    );
    await this.#turns.beLate(late);
  }
}

function claimFor(message: Message, { claim, until }: Claim): void {
  message.claim = claim;
  message.dueAt = until;
}
