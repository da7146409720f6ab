import type { ConfirmChannel as AmqpChannel, ChannelModel } from "amqplib";
import { Fifo } from "../../async/fifo";
import { ReliableError, reasonOf } from "../../errors";
import type { Timer } from "../../platform/clock";
import { notSent, type Publication, type PublishResult } from "../courier";
import type { ConfirmChannelOptions } from "./confirm-options";
import { discardChannel, openConfirmChannel } from "./declare";
import { type Entry, resultOfThrown, write } from "./outgoing";
import { culpritsAmong, type Refusal, refusalOf, SizeLimit } from "./refusal";
import { Silence } from "./silence";

/** After a refusal the broker takes publishes again in a moment. What waits longer than this is told that it was not sent. */
const REOPEN_MS = 5000;

/**
 * A full second of publishes at the rate of a good broker: enough to smooth peaks, too little to hide that the broker
 * is too slow. An emit of `callback` makes two publishes.
 */
const MAX_WAITING = 20_000;
const MAX_WAITING_BYTES = 64 * 1024 * 1024;

/** How often it is looked whether what was sent before a move is answered. */
const MOVE_POLL_MS = 100;

/**
 * Publishes persistent and mandatory on one confirm channel, through a window limited in count and bytes. Every entry
 * gets exactly one outcome. Nothing is sent twice and nothing waits for a connection: what cannot be sent now is
 * `unknown` now. The one exception: RabbitMQ answers a publish that it refuses by closing the channel, or the
 * connection, and drops with it what came behind. Then the refused one is told apart, and the others, which have done
 * nothing wrong, go again.
 */
export class ConfirmChannel {
  #channel: AmqpChannel | undefined;
  #model: ChannelModel | undefined;
  /** Why the connection was lost. It is told before the channels are closed. */
  #lost: unknown;
  #why: string | undefined = "not connected";
  #blocked: string | undefined;
  #draining = false;
  /** In order of sending and so of deadline: one timer is enough for all. */
  readonly #inFlight = new Map<string, Entry>();
  #inFlightBytes = 0;
  readonly #waiting = new Fifo<Entry>();
  #waitingBytes = 0;
  #token = 0;
  #timer: Timer | undefined;
  readonly silence: Silence;
  /** Timed out and still unanswered. They stay in amqplib's list of the channel, so their number is limited too. */
  #orphans = 0;
  /** Runs while publishes wait for the channel that is opened again after a refusal. */
  #reopening: Timer | undefined;
  readonly #sizeLimit: SizeLimit;
  #frameMax = Number.POSITIVE_INFINITY;

  constructor(private readonly options: ConfirmChannelOptions) {
    this.#sizeLimit = new SizeLimit(options.clock);
    this.silence = new Silence(options.clock);
  }

  get open(): boolean {
    return this.#channel !== undefined;
  }

  get blocked(): string | undefined {
    return this.#blocked;
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  get writable(): boolean {
    return this.#waiting.length < MAX_WAITING && this.#waitingBytes < MAX_WAITING_BYTES;
  }

  publish(exchange: string, routingKey: string, publication: Publication): Promise<PublishResult> {
    const bytes = publication.body.length;
    const refused = this.#objection(bytes);
    if (refused) {
      this.options.onSettled(routingKey, refused);
      return Promise.resolve(refused);
    }
    return new Promise((resolve, reject) => {
      const entry: Entry = {
        exchange,
        routingKey,
        publication,
        bytes,
        token: (++this.#token).toString(36),
        channel: undefined,
        deadline: 0,
        returned: undefined,
        settled: false,
        resolve,
        reject
      };
      if (this.#waiting.length === 0 && this.#hasRoom(bytes)) return this.#send(entry);
      this.#waiting.push(entry);
      this.#waitingBytes += bytes;
    });
  }

  /** Takes publishes over that wait for their outcomes. */
  adopt(entries: Entry[]): void {
    for (const entry of entries) this.#waitingBytes += entry.bytes;
    this.#waiting.putBack(entries);
    if (this.#channel) this.#advance();
    else this.#awaitChannel(String(this.#why));
  }

  #objection(bytes: number): PublishResult | undefined {
    const limit = this.#sizeLimit.bytes;
    if (bytes > limit)
      return { outcome: "refused", reason: `body of ${bytes} bytes exceeds RabbitMQ's limit of ${limit}` };
    if (!this.#channel) return notSent(String(this.#why));
    if (this.#blocked !== undefined) return notSent(`broker blocks publishers (${this.#blocked})`);
    return this.writable ? undefined : notSent("too many publishes are waiting");
  }

  /**
   * Opens the confirm channel; `wanted` is asked when it is open. Rejects when the broker refuses or does not answer.
   */
  attach(model: ChannelModel, wanted = () => true): Promise<void> {
    return openConfirmChannel(model, this.options.clock, channel => {
      if (!wanted()) return discardChannel(channel);
      this.#listen(channel, model);
      this.#draining = false;
      this.#orphans = 0;
      this.#reopening?.stop();
      this.#reopening = undefined;
      this.#frameMax = (model.connection as unknown as { frameMax: number }).frameMax;
      this.#channel = channel;
      this.#advance();
    });
  }

  /**
   * On another connection, while what was sent on the one of before is still answered there. Resolves when all of that
   * has its outcome.
   */
  async move(model: ChannelModel, opened: () => void): Promise<void> {
    const before = this.#channel;
    await this.attach(model, () => {
      opened();
      return true;
    });
    const { clock, confirmTimeoutMs } = this.options;
    const until = clock.monotonic() + confirmTimeoutMs;
    const open = () => [...this.#inFlight.values()].some(({ channel }) => channel === before);
    while (open() && clock.monotonic() < until) await clock.sleep(MOVE_POLL_MS);
  }

  /** `refusal`: what was in flight is sorted, and what waits goes on waiting for the next channel, for a while. */
  detach(reason: string, refusal?: Refusal): void {
    const waits = this.#reopening !== undefined && !this.#channel;
    this.#channel = undefined;
    this.#why = reason;
    if (refusal) this.#sort(reason, refusal);
    else if (!waits) this.#settleAll(reason);
  }

  /** Nothing is sent any more. */
  close(reason: string): void {
    this.#reopening?.stop();
    this.#reopening = undefined;
    this.detach(reason);
  }

  setBlocked(reason: string | undefined): void {
    this.#blocked = reason;
    if (reason !== undefined) this.#giveUpWaiting(`broker blocks publishers (${reason})`);
  }

  #listen(channel: AmqpChannel, model: ChannelModel): void {
    let closed: unknown;
    channel.on("error", error => void (closed = error));
    if (model !== this.#model) {
      this.#model = model;
      this.#lost = undefined;
      this.silence.begin();
      model.on("error", error => {
        if (model === this.#model) this.#lost = error;
      });
    }
    channel.on("handler-error", error => this.options.logger.error("A publish listener threw:", error));
    channel.on("return", message => {
      const entry = this.#inFlight.get(message.properties.correlationId as string);
      const fields = message.fields as unknown as { replyCode: number; replyText: string };
      if (entry && entry.publication.messageId === message.properties.messageId)
        entry.returned = `${fields.replyCode} ${fields.replyText}: no queue took it`;
    });
    channel.on("drain", () => {
      if (channel !== this.#channel) return;
      this.#draining = false;
      this.#advance();
    });
    channel.on("close", () => {
      if (channel !== this.#channel) return;
      // If it closes without an error of its own, its connection was lost, and that is reported elsewhere.
      const reason = closed === undefined ? "connection lost" : reasonOf(closed);
      const refusal = refusalOf(closed ?? this.#lost);
      this.detach(reason, refusal);
      if (closed !== undefined) this.options.onChannelLost(reason, refusal);
    });
  }

  #hasRoom(bytes: number): boolean {
    const { window, windowBytes } = this.options;
    if (this.#draining || !this.#channel || this.#inFlight.size >= window) return false;
    // A publish larger than the window is sent alone.
    return this.#inFlight.size === 0 || this.#inFlightBytes + bytes <= windowBytes;
  }

  #send(entry: Entry): void {
    const channel = this.#channel as AmqpChannel;
    try {
      const limits = { frameMax: this.#frameMax, now: this.options.clock.now() };
      this.#draining = !write(channel, entry, limits, error => this.#answered(channel, entry, error));
    } catch (thrown) {
      if (thrown instanceof ReliableError) this.#reject(entry, thrown);
      else this.#end(entry, resultOfThrown(thrown));
      return;
    }
    const now = this.options.clock.monotonic();
    this.silence.sent();
    entry.channel = channel;
    entry.deadline = now + this.options.confirmTimeoutMs;
    this.#inFlight.set(entry.token, entry);
    this.#inFlightBytes += entry.bytes;
    this.#timer ??= this.#arm(this.options.confirmTimeoutMs);
  }

  #reject(entry: Entry, error: ReliableError): void {
    entry.settled = true;
    this.options.onSettled(entry.routingKey);
    entry.reject(error);
  }

  /** A return, if there is one, has come before its confirm. */
  #answered(channel: AmqpChannel, entry: Entry, error: Error | null): void {
    const lost = error !== null && error.message !== "message nacked";
    if (entry.settled) {
      if (channel !== this.#channel) return;
      this.#orphans--;
      // Late, but it lives.
      if (!lost) this.silence.confirmed(this.#inFlight.size > 0);
      return;
    }
    if (lost) {
      // The `close` listener of the channel in use settles all entries, with the reason. That of one before does not.
      if (channel !== this.#channel && this.#inFlight.get(entry.token) === entry)
        this.#settle(entry, { outcome: "unknown", reason: "connection lost" });
      return;
    }
    this.silence.confirmed(this.#inFlight.size > 1);
    if (error) this.#settle(entry, { outcome: "nacked", reason: "refused by the broker" });
    else if (entry.returned) this.#settle(entry, { outcome: "returned", reason: entry.returned, code: "NO_ROUTE" });
    else this.#settle(entry, { outcome: "confirmed" });
    this.#advance();
  }

  #settle(entry: Entry, result: PublishResult): void {
    this.#inFlight.delete(entry.token);
    this.#inFlightBytes -= entry.bytes;
    this.#end(entry, result);
  }

  #end(entry: Entry, result: PublishResult): void {
    entry.settled = true;
    this.options.onSettled(entry.routingKey, result);
    entry.resolve(result);
  }

  #advance(): void {
    for (let next = this.#waiting.peek(); next && this.#hasRoom(next.bytes); next = this.#waiting.peek()) {
      this.#waiting.shift();
      this.#waitingBytes -= next.bytes;
      this.#send(next);
    }
  }

  #settleAll(reason: string): void {
    this.#timer?.stop();
    this.#timer = undefined;
    for (const entry of this.#inFlight.values()) this.#settle(entry, { outcome: "unknown", reason });
    this.#giveUpWaiting(reason);
  }

  /** Those that the broker took before it closed may go twice, as after any lost confirm. */
  #sort(reason: string, refusal: Refusal): void {
    this.#timer?.stop();
    this.#timer = undefined;
    this.#sizeLimit.learn(refusal);
    const suspects = [...this.#inFlight.values()];
    const culprits = new Set(culpritsAmong(suspects, refusal));
    this.#inFlight.clear();
    this.#inFlightBytes = 0;
    for (const culprit of culprits) this.#end(culprit, { outcome: "refused", reason: refusal.text });
    const others = suspects.filter(suspect => !culprits.has(suspect));
    this.#awaitChannel(reason);
    for (const entry of others) entry.returned = undefined;
    if (culprits.size) this.adopt(others);
    else if (others.length) this.options.onSuspects(others);
  }

  #awaitChannel(reason: string): void {
    this.#reopening ??= this.options.clock.after(REOPEN_MS, () => {
      this.#reopening = undefined;
      if (!this.#channel) this.#giveUpWaiting(reason);
    });
  }

  #giveUpWaiting(reason: string): void {
    this.#waitingBytes = 0;
    for (const entry of this.#waiting.drain()) this.#end(entry, notSent(reason));
  }

  #arm(ms: number): Timer {
    return this.options.clock.after(ms, () => this.#expire());
  }

  #expire(): void {
    this.#timer = undefined;
    const now = this.options.clock.monotonic();
    let expired = 0;
    for (const entry of this.#inFlight.values()) {
      // A timer may fire a fraction of a millisecond early.
      if (entry.deadline > now + 1) break;
      this.#settle(entry, { outcome: "unknown", reason: `no confirm within ${this.options.confirmTimeoutMs} ms` });
      expired++;
    }
    if (expired) {
      this.#orphans += expired;
      if (this.#channel && this.#blocked === undefined) {
        const { confirmTimeoutMs, window } = this.options;
        if (this.silence.ms + 1 >= confirmTimeoutMs) {
          const reason = `no confirms for ${confirmTimeoutMs} ms`;
          this.detach(reason);
          this.options.onSilent(reason);
          return;
        }
        if (this.#orphans > window) {
          this.#recycle(this.#channel);
          return;
        }
      }
      this.#advance();
    }
    const [oldest] = this.#inFlight.values();
    if (oldest) this.#timer ??= this.#arm(Math.max(1, oldest.deadline - this.options.clock.monotonic()));
  }

  #recycle(channel: AmqpChannel): void {
    const reason = "some confirms do not come, channel replaced";
    this.detach(reason);
    discardChannel(channel);
    this.options.onChannelLost(reason);
  }
}
