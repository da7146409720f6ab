import type { Consumption, Delivery, Heard } from "../couriers/courier";
import { reasonOf } from "../errors";
import { backoffMs } from "../message/backoff";
import { baseGroup } from "../message/pattern";
import type { Timer } from "../platform/clock";
import { CONTROL_TYPE, parseControl } from "../wire/control";
import { Unreadable } from "../wire/json";
import { pauseMarker } from "../wire/names";
import { type ConsumerParts, type ConsumerSpec, RETRY } from "./consumer-parts";
import type { ReceiptSender } from "./receipt-sender";

/** In case the news of a change got lost, or was never sent since its process died. */
const LOOK_EVERY_MS = 60_000;

/** Between two looks: whoever may write to the broker can send news without end. */
const MIN_BETWEEN_MS = 250;

/**
 * Lets a consumer take, or not, as its group's marks at the broker say. The news says only that there may be a change,
 * so one that is forged, or comes late or twice, does no more than a look. Before its first delivery on any connection
 * the consumption looks by itself.
 */
export class Pausing {
  readonly marks: readonly string[];
  readonly #group: string;
  readonly #end = new AbortController();
  readonly #unbegun = new Set<Delivery>();
  #consumption: Consumption | undefined;
  #unsubscribe: (() => void)[] = [];
  #timer: Timer | undefined;
  #looking: Promise<void> | undefined;
  #again = false;

  constructor(
    private readonly spec: Pick<ConsumerSpec, "group" | "pattern" | "queue" | "foreign">,
    private readonly parts: ConsumerParts,
    private readonly receipts: ReceiptSender
  ) {
    const { group, pattern, foreign } = spec;
    this.#group = baseGroup(group);
    const marker = (of?: string) => pauseMarker(parts.namespace, this.#group, of);
    // A queue for jobs has one pattern, which is its name.
    this.marks = foreign ? [marker()] : [marker(), marker(pattern)];
  }

  get paused(): boolean {
    return this.#consumption?.suspended === true;
  }

  /** What it consumed before it could listen is looked at once it does. */
  watch(consumption: Consumption): void {
    if (this.#end.signal.aborted) return;
    const { courier, clock } = this.parts;
    this.#consumption = consumption;
    if (consumption.suspended) this.#told();
    this.#timer = clock.every(LOOK_EVERY_MS, () => void this.look());
    // By its queue's name it is asked whether it lives: a breaker that is open leaves the queue without a consumer.
    this.#unsubscribe = [this.#group, this.spec.queue].map(key =>
      courier.control.listen(key, heard => void ((!heard || this.#concerns(heard)) && this.look()))
    );
  }

  /** It has come, and no handler has begun it. False = it is given back, since the group is paused. */
  hold(delivery: Delivery): boolean {
    this.#unbegun.add(delivery);
    if (this.paused) this.#giveBack();
    return this.#unbegun.has(delivery);
  }

  /** Its handler begins, or it needs none. False = it was given back meanwhile. */
  release(delivery: Delivery): boolean {
    return this.#unbegun.delete(delivery);
  }

  #giveBack(): void {
    for (const delivery of this.#unbegun) this.receipts.nack(delivery);
    this.#unbegun.clear();
  }

  stop(): void {
    this.#end.abort();
    this.#timer?.stop();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  /** Never rejects. A call in the middle of a look is followed by another look. */
  look(): Promise<void> {
    this.#again = true;
    this.#looking ??= this.#lookOn().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  async #lookOn(): Promise<void> {
    const { courier, clock, logger } = this.parts;
    for (let failures = 0; this.#again && !this.#end.signal.aborted; ) {
      this.#again = false;
      try {
        await this.#lookOnce();
        failures = 0;
      } catch (error) {
        // The next connection looks by itself.
        if (!courier.status().consume.connected) return;
        logger.debug(`Reliable: group ${this.spec.group} could not look whether it is paused: ${reasonOf(error)}`);
        this.#again = true;
        await clock.sleep(backoffMs(RETRY, ++failures), this.#end.signal);
        continue;
      }
      await clock.sleep(MIN_BETWEEN_MS, this.#end.signal);
    }
  }

  async #lookOnce(): Promise<void> {
    const { control } = this.parts.courier;
    const consumption = this.#consumption as Consumption;
    const set = await Promise.all(this.marks.map(mark => control.marked(mark)));
    const marked = set.includes(true);
    if (this.#end.signal.aborted || marked === consumption.suspended) return;
    const moved = marked ? consumption.suspend() : consumption.resume();
    if (marked) this.#giveBack();
    await moved;
    this.#told();
  }

  #told(): void {
    const { group, pattern } = this.spec;
    const how = this.paused
      ? "is paused: it takes nothing until an operator resumes it"
      : "is resumed, and takes messages again";
    this.parts.logger.info(`Reliable: group ${group} ${how} ('${pattern}').`);
  }

  #concerns(heard: Heard): boolean {
    if (heard.type !== CONTROL_TYPE) return false;
    try {
      this.parts.signatures?.check(heard, "control");
      return parseControl(heard.body).group === this.#group;
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      this.parts.logger.debug(`Reliable: a control message is left aside: ${error.message}`);
      return false;
    }
  }
}
