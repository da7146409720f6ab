import { randomUUID } from "node:crypto";
import { Batcher } from "../async/batcher";
import { type Deadline, withTimeout } from "../async/deadline";
import { WaitGroup } from "../async/wait-group";
import { reasonOf } from "../errors";
import type { Timer } from "../platform/clock";
import type { LaneEnd, Turn } from "../stores/lane-store";
import { newCounts } from "./counts";
import { claimPage, sweepPage } from "./sweep";
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
/** Lanes that are looked at in one pass. */
const LOOK_PAGE = 500;
const LOOK_EVERY_MS = 10_000;

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
  #timer: Timer | undefined;
  #lookedAt = -Infinity;
  #ended = false;

  constructor(
    private readonly parts: SweepParts,
    /** False = others publish: what is to be published is due for them. */
    private readonly works: boolean
  ) {
    const { store, events, logger } = parts;
    const failed = (error: unknown) =>
      logger.debug(`Reliable: whose turn it is was not settled; it is looked at when it is due: ${reasonOf(error)}`);
    this.#publishing = new WaitGroup(failed);
    this.#ends = new Batcher({
      maxItems: MAX_ENDS,
      write: async ends => {
        this.#begin(await store.lanes.advance(ends));
        return [];
      }
    });
    this.#turns = new Batcher({
      maxItems: MAX_TURNS,
      maxBytes: MAX_BYTES,
      sizeOf: ({ bytes }) => bytes,
      write: turns => this.#claim(turns).then(() => [])
    });
    this.#deaf = [
      events.on("left", ends => {
        for (const end of ends) this.#ends.add(end).catch(failed);
      }),
      events.on("turns", turns => this.#begin(turns))
    ];
  }

  /** A page of lanes, if the last look was a while ago. The node that sweeps for all does it. */
  async look(): Promise<void> {
    const { store, clock } = this.parts;
    if (clock.monotonic() - this.#lookedAt < LOOK_EVERY_MS) return;
    const { turns, more } = await store.lanes.look(LOOK_PAGE);
    if (!more) this.#lookedAt = clock.monotonic();
    this.#begin(turns);
  }

  async stop(deadline: Deadline): Promise<void> {
    this.#ended = true;
    this.#timer?.stop();
    for (const stop of this.#deaf) stop();
    const idle = this.#ends
      .idle()
      .then(() => this.#turns.idle())
      .then(() => this.#publishing.idle());
    await withTimeout(idle, deadline.left, this.parts.clock);
  }

  #begin(turns: Turn[]): void {
    for (const turn of turns)
      this.#turns
        .add(turn)
        .catch(error => this.parts.logger.debug(`Reliable: message ${turn.id} was not claimed: ${reasonOf(error)}`));
  }

  async #claim(turns: Turn[]): Promise<void> {
    const { store, courier, nodeID } = this.parts;
    const ids = [...new Set(turns.map(({ id }) => id))];
    if (!this.works || this.#ended || !courier.ready) return store.lanes.wake(ids, store.now());
    const claim = `${nodeID}#turns#${randomUUID()}`;
    const page = await claimPage(this.parts, { ids, claim, checked: true });
    if (page.length) this.#publishing.track(sweepPage(this.parts, page, claim, newCounts()));
    const claimed = new Set(page.map(({ _id }) => _id));
    for (const turn of turns) this.#again(turn, claimed.has(turn.id));
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
