import type { Channel, ConsumeMessage } from "amqplib";
import { CLOSE_MS, TIMED_OUT, withTimeout } from "../../async/deadline";
import { ReliableError, reasonOf } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Timer } from "../../platform/clock";
import type { Consumption } from "../courier";
import type { ConsumptionOptions } from "./consumption-options";
import { closeChannel, discardChannel } from "./declare";
import { AmqpDelivery, drained, type Epoch, giveBack, newEpoch, returnAll } from "./delivery";
import { Intake, MAX_UNACKED_BYTES } from "./intake";
import { guardUndecodable } from "./undecodable";

/**
 * Pause after a lost channel or a cancellation. Without it this would loop fast on a queue that is being moved or
 * deleted.
 */
const RECONSUME = { initialMs: 100, maxMs: 30_000, jitter: "half" } as const;

/** A handler that takes longer runs again elsewhere, as after a lost connection. */
const LEAVE_MS = 30_000;

/** A cancel takes one round trip. After this time the connection counts as dead. */
const CANCEL_TIMEOUT_MS = 5_000;

/** Consumes one queue on a channel of its own, so that an error of one consumer does not affect the others. */
export class AmqpConsumption implements Consumption {
  readonly #end = new AbortController();
  #epoch: Epoch | undefined;
  #epochs = 0;
  #failures = 0;
  #opening: Promise<void> | undefined;
  /** Cancels and consumes again with another prefetch. */
  #turning: Promise<void> | undefined;
  readonly #intake: Intake;
  #suspended = false;
  /** Counts what was said by `suspend` and `resume`: an older look at the marks is overtaken by it. */
  #said = 0;
  /** One after the other. */
  #moving: Promise<void> = Promise.resolve();
  /** Of a connection that it moves away from: nothing new comes on it. */
  #leaving: Epoch | undefined;
  /** Nobody answers for a delivery any more. */
  #ended = false;
  /** See `limit`. */
  #limit = Number.POSITIVE_INFINITY;
  #timer: Timer | undefined;
  #lastError: string | undefined;

  constructor(private readonly options: ConsumptionOptions) {
    this.#intake = new Intake(options.spec.prefetch);
    this.#limit = options.spec.limit ?? this.#limit;
  }

  get queue(): string {
    return this.options.spec.queue.name;
  }

  get active(): boolean {
    const epoch = this.#epoch;
    if (!epoch?.live || this.#cancelled || this.#suspended) return false;
    return epoch.consumerTag !== undefined || this.#turning !== undefined || epoch.unacked.awaited || this.#limit === 0;
  }

  get #prefetch(): number {
    return Math.min(this.#intake.prefetch, this.#limit);
  }

  limit(deliveries: number): void {
    const before = this.#prefetch;
    const fewer = deliveries < this.#limit;
    this.#limit = deliveries;
    const epoch = this.#epoch;
    // Where there is no channel, the consumer that comes next has this limit.
    if (before === this.#prefetch || !epoch?.live || this.#cancelled) return;
    const { consumerTag: tag } = epoch;
    if (tag !== undefined) this.#turns(epoch, () => this.#turn(epoch, tag, this.#intake.prefetch, fewer));
    else this.#begin(epoch);
  }

  /** Unless it is begun or turned already, which goes by the limit at its end. */
  #begin(epoch: Epoch): void {
    const { live, consumerTag, unacked } = epoch;
    if (!live || this.#cancelled || this.#suspended || consumerTag !== undefined || this.#limit === 0) return;
    if (!this.#opening && !this.#turning && !unacked.awaited) this.#turns(epoch, () => this.#consume(epoch));
  }

  get suspended(): boolean {
    return this.#suspended && !this.#cancelled;
  }

  /** Starts consuming if it does not yet and there is a connection. Called at the start and after each connect. */
  open(): Promise<void> {
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
      if (this.#epoch) this.#begin(this.#epoch);
    });
    return this.#opening;
  }

  /**
   * To the connection that is there now, while what is under way ends on the channel of before. What has not ended after
   * LEAVE_MS is given back. Never rejects: a queue that cannot be consumed there is told and tried again.
   */
  async move(): Promise<void> {
    await this.#atRest();
    const before = this.#epoch;
    if (!before?.live) return this.open();
    await this.#beginAnew(before).catch(thrown => this.#failed(thrown));
    if (this.#epoch === before) return;
    const tag = before.consumerTag;
    before.consumerTag = undefined;
    if (tag !== undefined) await before.channel.cancel(tag).catch(() => undefined);
    await drained(before, { withinMs: LEAVE_MS, clock: this.options.clock, ended: () => this.#ended });
    this.#giveUp(before);
    this.#leaving = undefined;
  }

  async #beginAnew(before: Epoch): Promise<void> {
    const model = this.options.model();
    if (!model || this.#cancelled) return;
    guardUndecodable(model);
    const channel = await model.createChannel();
    await this.#atRest();
    if (this.#cancelled || this.#epoch !== before || !before.live) return discardChannel(channel);
    this.#leaving = before;
    const epoch = this.#adopt(channel);
    this.#turns(epoch, () => this.#consume(epoch));
    await this.#turning;
  }

  /** No consumer is just being begun or ended. */
  async #atRest(): Promise<void> {
    while (this.#opening ?? this.#turning) await (this.#opening ?? this.#turning);
  }

  #giveUp(epoch: Epoch): void {
    returnAll(epoch, thrown => this.options.logger.debug(`Returning messages to ${this.queue}: ${reasonOf(thrown)}`));
  }

  suspend(): Promise<void> {
    return this.#say(true);
  }

  resume(): Promise<void> {
    return this.#say(false);
  }

  #say(suspended: boolean): Promise<void> {
    this.#said++;
    this.#suspended = suspended;
    return (this.#moving = this.#moving.then(() => this.#move()));
  }

  /** Without a channel there is nothing to do: the next one begins as was said. */
  async #move(): Promise<void> {
    await this.#opening;
    await this.#turning;
    const epoch = this.#epoch;
    if (!epoch?.live || this.#cancelled) return;
    const tag = epoch.consumerTag;
    if (this.#suspended && tag !== undefined) {
      epoch.consumerTag = undefined;
      this.#intake.givesBack = true;
      // A lost channel delivers nothing either.
      await epoch.channel.cancel(tag).catch(() => undefined);
      if (epoch === this.#epoch) this.#intake.givesBack = false;
    } else if (!this.#suspended && tag === undefined && !epoch.unacked.awaited) {
      this.#turns(epoch, () => this.#consume(epoch));
      await this.#turning;
    }
  }

  async cancel(withinMs = CANCEL_TIMEOUT_MS): Promise<void> {
    this.#refuse();
    const stopped = await withTimeout(this.#stop(), Math.min(withinMs, CANCEL_TIMEOUT_MS), this.options.clock);
    // From a broker that does not answer, no more deliveries are taken; unacked ones return to the queue with the
    // channel.
    if (stopped === TIMED_OUT && this.#epoch) this.#drop(this.#epoch);
  }

  async close(withinMs = CANCEL_TIMEOUT_MS + CLOSE_MS): Promise<void> {
    const until = this.options.clock.monotonic() + withinMs;
    await this.cancel(withinMs);
    this.#ended = true;
    if (this.#leaving) this.#giveUp(this.#leaving);
    const epoch = this.#epoch;
    this.options.onClosed();
    if (!epoch?.live) return;
    this.#giveUp(epoch);
    const { clock } = this.options;
    await closeChannel(epoch.channel, Math.max(0, until - clock.monotonic()), clock);
  }

  /** The connections are about to be closed: failures caused by that are neither reported nor repeated. */
  abandon(): void {
    this.#ended = true;
    this.#refuse();
  }

  #refuse(): void {
    this.#end.abort();
    this.#timer?.stop();
  }

  get #cancelled(): boolean {
    return this.#end.signal.aborted;
  }

  async #stop(): Promise<void> {
    await this.#atRest();
    for (const epoch of [this.#epoch, this.#leaving]) {
      const tag = epoch?.consumerTag;
      if (!epoch?.live || tag === undefined) continue;
      epoch.consumerTag = undefined;
      // Rejects if the channel is lost; then nothing is delivered either.
      await epoch.channel.cancel(tag).catch(() => undefined);
    }
  }

  async #open(): Promise<void> {
    const model = this.options.model();
    if (this.#cancelled || !model || this.#epoch?.live) return;
    let epoch: Epoch | undefined;
    try {
      await this.options.declare();
      await this.#lookAtMarks();
      guardUndecodable(model);
      const channel = await model.createChannel();
      if (this.#cancelled) return discardChannel(channel);
      epoch = this.#adopt(channel);
      await this.#consume(epoch);
      if (!epoch.live) return;
      this.#failures = 0;
      this.#lastError = undefined;
    } catch (thrown) {
      if (epoch) this.#drop(epoch);
      this.#failed(thrown);
      this.#again();
    }
  }

  async #lookAtMarks(): Promise<void> {
    const { marks = [] } = this.options.spec;
    if (!marks.length) return;
    const said = this.#said;
    const set = await Promise.all(marks.map(mark => this.options.marked(mark)));
    if (said === this.#said) this.#suspended = set.includes(true);
  }

  async #consume(epoch: Epoch): Promise<void> {
    const prefetch = this.#prefetch;
    if (!epoch.live || epoch !== this.#epoch || this.#cancelled || this.#suspended || this.#limit === 0) return;
    // It counts for the consumers that are begun after it.
    await epoch.channel.prefetch(prefetch);
    const { consumerTag } = await epoch.channel.consume(this.queue, message => this.#received(epoch, message));
    // A null may have arrived together with the answer.
    if (!epoch.live) return;
    epoch.consumerTag = consumerTag;
    // Its limit was changed meanwhile.
    if (prefetch !== this.#prefetch) await this.#turn(epoch, consumerTag, this.#intake.prefetch, true);
  }

  /** On the same channel, since closing it would return what is being handled. */
  async #turn(epoch: Epoch, tag: string, prefetch: number, fewer: boolean): Promise<void> {
    epoch.consumerTag = undefined;
    this.#intake.givesBack = fewer;
    await epoch.channel.cancel(tag);
    this.#intake.turned(prefetch);
    const again = () => this.#turns(epoch, () => this.#consume(epoch));
    if (epoch.unacked.bytes <= MAX_UNACKED_BYTES) await this.#consume(epoch);
    else epoch.unacked.whenAtMost(MAX_UNACKED_BYTES, again);
  }

  #turns(epoch: Epoch, turn: () => Promise<void>): void {
    if (!epoch.live || this.#cancelled) return;
    const turning = turn()
      .catch(thrown => {
        // A lost channel has told so itself.
        if (!epoch.live) return;
        this.#drop(epoch);
        this.#failed(thrown);
        this.#again();
      })
      .finally(() => {
        if (this.#turning !== turning) return;
        this.#turning = undefined;
        this.#begin(epoch);
      });
    this.#turning = turning;
  }

  #adopt(channel: Channel): Epoch {
    const epoch = newEpoch(++this.#epochs, channel);
    this.#epoch = epoch;
    this.#intake.givesBack = false;
    channel.on("error", error => this.#failed(error));
    channel.on("handler-error", error => this.options.logger.error(`Consuming ${this.queue}:`, error));
    channel.on("close", () => {
      if (!epoch.live) return;
      epoch.live = false;
      this.#again();
    });
    return epoch;
  }

  #received(epoch: Epoch, message: ConsumeMessage | null): void {
    if (!epoch.live) return;
    if (message === null) {
      // The queue was deleted or moved, or the broker's consumer timeout was reached. amqplib never answers the
      // cancellation, so the broker keeps a dead entry of the consumer that a later ack would wake. Only closing the
      // channel ends it.
      this.#failed(
        new Error(`the broker cancelled the consumer of ${this.queue} (queue deleted or moved, or consumer timeout)`)
      );
      this.#drop(epoch);
      this.#again();
      return;
    }
    if (this.#intake.givesBack) {
      giveBack(epoch, message);
      return;
    }
    const prefetch = this.#intake.took(epoch, message);
    const tag = epoch.consumerTag;
    // Without a tag it is just being begun; the next delivery asks again.
    // Fewer than before: there are too many bytes already.
    if (prefetch !== undefined && tag !== undefined)
      this.#turns(epoch, () => this.#turn(epoch, tag, prefetch, prefetch < this.#intake.prefetch));
    try {
      this.options.spec.onDelivery(new AmqpDelivery(this.queue, epoch, message));
    } catch (thrown) {
      this.options.logger.error(`The consumer of ${this.queue} threw; the message stays unacked:`, thrown);
    }
  }

  #drop(epoch: Epoch): void {
    epoch.live = false;
    discardChannel(epoch.channel);
  }

  /** Without a connection the courier resumes it after the next connect. */
  #again(): void {
    if (this.#cancelled || !this.options.model()) return;
    this.#timer?.stop();
    this.#timer = this.options.clock.after(backoffMs(RECONSUME, ++this.#failures), () => void this.open());
  }

  #failed(thrown: unknown): void {
    const text = reasonOf(thrown);
    if (this.#cancelled || text === this.#lastError) return;
    this.#lastError = text;
    this.options.logger.warn(`Consuming ${this.queue}: ${text}`);
    // A mismatch needs an operator; everything else is tried again.
    if (thrown instanceof ReliableError) this.options.onFailure(thrown);
  }
}
