import { randomUUID } from "node:crypto";
import { Batcher } from "../async/batcher";
import { type Deadline, withTimeout } from "../async/deadline";
import { WaitGroup } from "../async/wait-group";
import { reasonOf } from "../errors";
import type { Message } from "../message/message";
import { turnClaimMs } from "../message/order";
import type { Timer } from "../platform/clock";
import type { LaneEnd, Turn } from "../stores/lane-store";
import type { RescheduleRecord } from "../stores/store-records";
import { newCounts } from "./counts";
import { claimPage, workThrough } from "./sweep";
import type { SweepParts } from "./sweep-parts";

/** Lanes whose turns are given at a time. */
const MAX_ENDS = 500;
/** Of what is claimed at a time: the same as of a page of a sweep. */
const MAX_TURNS = 200;
const MAX_BYTES = 5 * 1024 * 1024;
/** A sweep has the message for another group; its claim ends soon. */
const CLAIMED_MS = 250;
/** As often: then the lane is looked at. */
const MAX_TRIES = 40;
/** A publish is recorded so much later: see `ConfirmBuffer`. */
const RECORD_MS = 500;
const MAX_OWED = 5000;
/** After a command that has failed: the store may be back. */
const RETRY_MS = 1000;
/** Lanes that are looked at in one pass. */
const LOOK_PAGE = 500;
const LOOK_PAGES = 60;
const LOOK_EVERY_MS = 5000;

/**
 * Messages with an order key: gives the turn to the next one when one has left the line, and publishes those whose turn
 * it is, at once, under a claim as a sweep does. Nobody waits for it, and nothing depends on it: what is lost here is seen
 * when the lane or the row is due.
 *
 *   process dies before the turn is given   the receipt comes again, or the lane is due
 *   … between that and the claim            the lane is due: its message is not, although it is its turn
 *   … after the claim                       the claim runs out, and the sweep publishes
 */
export class Turns {
  readonly #ends: Batcher<LaneEnd, void>;
  readonly #turns: Batcher<Turn, void>;
  readonly #publishing: WaitGroup;
  readonly #deaf: (() => void)[];
  /** Ids that somebody else had claimed, and how often that was so. */
  readonly #claimed = new Map<string, { turn: Turn; tries: number }>();
  /** What was published, by id; its claim holds until it is recorded. */
  readonly #owed = new Map<string, RescheduleRecord>();
  #recording: Timer | undefined;
  #timer: Timer | undefined;
  #lookedAt = -Infinity;
  #ended = false;

  constructor(
    private readonly parts: SweepParts,
    /** False = others publish: what is to be published is due for them. */
    private readonly works: boolean
  ) {
    const { events } = parts;
    this.#publishing = new WaitGroup(error => this.#failed(error));
    this.#ends = new Batcher({
      maxItems: MAX_ENDS,
      write: ends => this.#advance(ends).then(() => [])
    });
    this.#turns = new Batcher({
      maxItems: MAX_TURNS,
      maxBytes: MAX_BYTES,
      sizeOf: ({ bytes }) => bytes,
      write: turns => this.#claim(turns).then(() => [])
    });
    this.#deaf = [
      events.on("left", ends => this.#left(ends)),
      events.on("turns", turns => this.#begin(turns)),
      events.on("claimed", (messages, claim, turns) => this.#publish(messages, claim, turns)),
      events.on("consumed", ids => {
        for (const id of ids) this.#owed.delete(id);
      })
    ];
  }

  /** Lanes that have not changed for a while, if the last look was a while ago. The node that sweeps for all does it. */
  async look(): Promise<void> {
    const { store, clock } = this.parts;
    if (clock.monotonic() - this.#lookedAt < LOOK_EVERY_MS) return;
    for (let page = 0; page < LOOK_PAGES && !this.#ended; page++) {
      const { turns, more } = await store.lanes.look(store.now(), LOOK_PAGE);
      this.#begin(turns);
      if (more) continue;
      this.#lookedAt = clock.monotonic();
      return;
    }
  }

  async stop(deadline: Deadline): Promise<void> {
    this.#ended = true;
    this.#timer?.stop();
    this.#recording?.stop();
    for (const stop of this.#deaf) stop();
    const idle = this.#ends
      .idle()
      .then(() => this.#turns.idle())
      .then(() => this.#publishing.idle())
      .then(() => this.#recordAll());
    await withTimeout(idle, deadline.left, this.parts.clock);
  }

  #left(ends: LaneEnd[]): void {
    for (const end of ends) void this.#ends.add(end);
  }

  #begin(turns: Turn[]): void {
    for (const turn of turns) void this.#turns.add(turn);
  }

  async #advance(ends: LaneEnd[]): Promise<void> {
    try {
      this.#begin(await this.parts.store.lanes.advance(ends));
    } catch (error) {
      this.#failed(error);
      this.#later(() => this.#left(ends));
    }
  }

  #failed(error: unknown): void {
    this.parts.logger.debug(`Reliable: whose turn it is was not settled (yet): ${reasonOf(error)}`);
  }

  #later(work: () => void): void {
    if (!this.#ended) this.parts.clock.after(RETRY_MS, () => !this.#ended && work());
  }

  async #claim(turns: Turn[]): Promise<void> {
    const { store, courier, nodeID } = this.parts;
    const ids = [...new Set(turns.map(({ id }) => id))];
    if (!this.works || this.#ended || !courier.ready)
      return store.lanes.wake(ids, store.now()).catch(error => this.#failed(error));
    // Of what this node has published to another group: its claim ends with its record.
    await this.#record(ids).catch(error => this.#failed(error));
    const claim = `${nodeID}#turns#${randomUUID()}`;
    const parts = { ...this.parts, claimMs: turnClaimMs(this.parts.claimMs) };
    const page = await claimPage(parts, { ids, claim, checked: true }).catch(error => this.#failed(error));
    if (!page) return this.#later(() => this.#begin(turns));
    // Of a message for which another group is waited for, that group's turn is to be known, too.
    const waits = new Map(page.map(({ _id, waiting }) => [_id, waiting]));
    const known = turns.filter(({ id, group }) => waits.get(id)?.every(waited => waited === group));
    this.#publish(page, claim, known);
    const claimed = new Set(page.map(({ _id }) => _id));
    for (const turn of turns) this.#again(turn, claimed.has(turn.id));
  }

  #publish(page: Message[], claim: string, turns: Turn[]): void {
    if (page.length) this.#publishing.track(this.#work(page, claim, turns));
  }

  async #work(page: Message[], claim: string, turns: Turn[]): Promise<void> {
    for (const record of await workThrough(this.parts, page, claim, newCounts(), { turns }))
      this.#owed.set(record.id, record);
    if (this.#ended || this.#owed.size > MAX_OWED) await this.#recordAll();
    else this.#recordLater();
  }

  /** All of them are recorded later: most are handled by then, and need no record. */
  async #recordAll(): Promise<void> {
    this.#recording?.stop();
    this.#recording = undefined;
    try {
      await this.#record([...this.#owed.keys()]);
    } catch (error) {
      this.#failed(error);
      if (!this.#ended) this.#recordLater();
    }
  }

  #recordLater(): void {
    this.#recording ??= this.parts.clock.after(RECORD_MS, () => this.#publishing.track(this.#recordAll()));
  }

  async #record(ids: string[]): Promise<void> {
    const records = ids.flatMap(id => this.#owed.get(id) ?? []);
    if (!records.length) return;
    for (const { id } of records) this.#owed.delete(id);
    try {
      await this.parts.store.messages.rescheduled(records, true);
    } catch (error) {
      for (const record of records) if (!this.#owed.has(record.id)) this.#owed.set(record.id, record);
      throw error;
    }
  }

  /** One that is not there any more, or not open, is let go after as many tries. */
  #again(turn: Turn, isClaimed: boolean): void {
    const key = JSON.stringify([turn.id, turn.group]);
    const tries = (this.#claimed.get(key)?.tries ?? 0) + 1;
    if (isClaimed || tries > MAX_TRIES) this.#claimed.delete(key);
    else this.#claimed.set(key, { turn, tries });
    if (!isClaimed && !this.#ended) this.#timer ??= this.parts.clock.after(CLAIMED_MS, () => this.#tryAgain());
  }

  #tryAgain(): void {
    this.#timer = undefined;
    this.#begin([...this.#claimed.values()].map(({ turn }) => turn));
  }
}
