import type { ReliableError } from "../errors";
import type { Message } from "../message/message";
import type { ClaimQuery, InsertOutcome } from "./store-records";

/** A group whose message has left the line of a key, or may have. */
export interface LaneEnd {
  key: string;
  group: string;
}

/** The message of a key whose turn it is in a group. */
export interface Turn extends LaneEnd {
  id: string;
  /** Grows with each turn of the key in the group. */
  number: number;
  /** Of its payload. */
  bytes: number;
}

/** See `ClaimQuery`. */
export type Claim = Pick<ClaimQuery, "claim" | "until">;

/** `turns`: given by it; of `claimed` ones, which have the claim, too. */
export interface Entered {
  outcomes: (InsertOutcome | ReliableError)[];
  turns: Turn[];
  claimed: Message[];
}

/** A message in a lane that waits for ANY_GROUP. `groups`: the emit's. */
export interface Unnamed {
  key: string;
  id: string;
  event: string;
  groups?: string[];
}

export interface Named {
  key: string;
  id: string;
  groups: string[];
}

/** A key that is held: its message has failed for good in the group, and others stand behind it. */
export interface HeldKey extends LaneEnd {
  id: string;
  event: string;
  /** Since when it is dead. */
  since: Date;
  reason?: string;
  /** How many stand behind it in the group. `capped`: there are more. */
  behind: number;
  capped?: true;
}

/** How many messages hold their key, and how many wait for their turn. `more`: there are more. */
export interface LaneCounts {
  held: { counted: number; more: boolean };
  behind: { counted: number; more: boolean };
}

/**
 * The lines of messages with an order key: one lane for each key. The store alone says whose turn it is, and every verb
 * may be repeated by anybody at any time.
 *
 * A message has its place once it is announced: its number is not above the lane's `top`. Its number is one more than
 * `top` as it was read before the insert, so what was promised before its emit has a smaller one. Of each group one
 * message has the turn, until it has left the line: the group has handled it, a human has closed it, or it has failed for
 * good and its `onDead` is "skip". Then the turn goes to the first one in line.
 *
 *   emit dies before the insert               nothing is stored
 *   … row inserted, not announced             never resolved; the row is due after the confirm timeout, and a sweep
 *                                             announces it
 *   … announced, or the turn taken            the row is due: the sweep sees its turn, and publishes; or that it has none
 *   session: committed, without a number      the next emit of the key, or the sweep, gives it one
 *   … between the turn's write and the claim  the lane is looked at when it is due: the row is due then
 *   two give the turn at once                 the write repeats whose turn it was: one wins, the other looks again
 *   it is over, and nobody is next            whoever is announced from then on looks, and takes it if the lane's version
 *                                             says that nobody has been announced since it was given
 *   nobody advances it                        the lane is looked at when it is due
 *   the only one of a lane leaves             the lane is not due: who is announced next takes the turn, or makes it due
 */
export interface LaneStore {
  /**
   * Inserts messages with their places, in the given order, and lines them up. As `MessageStore.insert` otherwise. With a
   * claim: those are stored under it whose turn it is at once.
   */
  enter(messages: Message[], claim?: Claim): Promise<Entered>;
  /**
   * Gives places to all messages of these keys that were stored without and are to be sent: those of one session in the
   * order of their emits. Repeating it is harmless.
   */
  place(keys: string[]): Promise<Turn[]>;
  /**
   * A page of the messages of these keys for which no group was known, in their order. Who enters meanwhile stands behind
   * them, for whichever group.
   */
  unnamed(keys: string[], limit: number): Promise<Unnamed[]>;
  /** They stand in the lines of these groups from now on; in the given order, so that none overtakes another. */
  name(named: Named[]): Promise<Turn[]>;
  /**
   * Messages of these keys will be stored without a place, and may be committed until then: who enters looks for them.
   * What was committed before has its place first.
   */
  expect(keys: string[], until: Date): Promise<Turn[]>;
  /**
   * Gives the turn to the next ones, where it is over; of these ends it was somebody's. Returns the turns given. Where
   * nobody is next it stays as it is: who is announced then looks whether it is over.
   */
  advance(ends: LaneEnd[]): Promise<Turn[]>;
  /**
   * Whose turn it is, of these messages: of those without a place after it was given, and where nobody has the turn after
   * it was given. `given`: all turns that were given on the way.
   */
  turnsOf(messages: Message[]): Promise<{ turns: Turn[]; given: Turn[] }>;
  /**
   * Looks at a page of lanes that have not changed for a while. `turns`: of messages that are not under way although it
   * is their turn.
   */
  look(now: Date, limit: number): Promise<{ turns: Turn[]; more: boolean }>;
  /** It is their turn, and they could not be published: they are due at `at`. */
  wake(ids: string[], at: Date): Promise<void>;
  /** Held keys, those longest held first; of one key, if it is given. `more`: there are others. */
  held(limit: number, key?: string): Promise<{ keys: HeldKey[]; more: boolean }>;
  /** Each up to `limit`, by the indexes alone. */
  counts(limit: number): Promise<LaneCounts>;
  /** Which message has the turn, by group; undefined = no such key is known (any more). */
  holders(key: string): Promise<Map<string, string> | undefined>;
  /**
   * Deletes a page of lanes that nobody has stood in since. One whose only message nobody has followed is found when that
   * message is pruned or discarded, so it is kept as long once more.
   */
  prune(before: Date, limit: number): Promise<boolean>;
}
