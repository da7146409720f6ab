import type { ConfirmChannel as AmqpChannel, ChannelModel } from "amqplib";
import { TIMED_OUT, withTimeout } from "../../async/deadline";
import { Fifo } from "../../async/fifo";
import { ReliableError, reasonOf } from "../../errors";
import type { Clock, Timer } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { notSent, type Publication, type PublishResult } from "../courier";
import { discardChannel } from "./declare";
import { encodable } from "./headers";

/**
 * RabbitMQ 4's default `max_message_size`. The broker answers a larger one by closing the channel, which would make a
 * whole window unknown.
 */
const MAX_BODY_BYTES = 16 * 1024 * 1024;

/**
 * A full second of publishes at the rate of a good broker: enough to smooth peaks, too little to hide that the broker
 * is too slow. An emit of `callback` makes two publishes.
 */
const MAX_WAITING = 20_000;
const MAX_WAITING_BYTES = 64 * 1024 * 1024;

/** Confirm timeouts in a row, without one confirm between them, after which the channel is replaced. */
const MAX_STRIKES = 2;

/**
 * A healthy broker opens a channel in milliseconds. A connection that cannot is dropped before its heartbeat notices.
 */
const OPEN_TIMEOUT_MS = 10_000;

export interface ConfirmChannelOptions {
  window: number;
  windowBytes: number;
  confirmTimeoutMs: number;
  logger: Logger;
  clock: Clock;
  /** The channel was lost or replaced while its connection is open. */
  onChannelLost(reason: string): void;
  /** Called once for every publish, before its promise is settled; without a result when the publish is rejected. */
  onSettled(routingKey: string, result?: PublishResult): void;
}

interface Entry {
  exchange: string;
  routingKey: string;
  /**
   * Freed once it is sent: thousands may wait for their confirms, and each garbage collection copies what they hold.
   */
  publication: Publication | undefined;
  messageId: string;
  bytes: number;
  token: string;
  deadline: number;
  returned: string | undefined;
  settled: boolean;
  resolve(result: PublishResult): void;
  reject(error: Error): void;
}

/**
 * Publishes persistent and mandatory on one confirm channel, through a window limited in count and bytes. Every entry
 * gets exactly one outcome. Nothing is sent twice and nothing waits for a connection: what cannot be sent now is
 * `unknown` now.
 */
export class ConfirmChannel {
  #channel: AmqpChannel | undefined;
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
  #strikes = 0;
  /** Timed out and still unanswered. They stay in amqplib's list of the channel, so their number is limited too. */
  #orphans = 0;

  constructor(private readonly options: ConfirmChannelOptions) {}

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
    const refused = this.#refusal(bytes);
    if (refused) {
      this.options.onSettled(routingKey, refused);
      return Promise.resolve(refused);
    }
    return new Promise((resolve, reject) => {
      const { messageId } = publication;
      const entry: Entry = {
        exchange,
        routingKey,
        publication,
        messageId,
        bytes,
        token: (++this.#token).toString(36),
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

  #refusal(bytes: number): PublishResult | undefined {
    if (bytes > MAX_BODY_BYTES)
      return { outcome: "nacked", reason: `body of ${bytes} bytes exceeds RabbitMQ's limit of ${MAX_BODY_BYTES}` };
    if (!this.#channel) return notSent(String(this.#why));
    if (this.#blocked !== undefined) return notSent(`broker blocks publishers (${this.#blocked})`);
    return this.writable ? undefined : notSent("too many publishes are waiting");
  }

  /** Opens the confirm channel. Rejects when the broker refuses or does not answer. */
  async attach(model: ChannelModel): Promise<void> {
    let late = false;
    const opening = model.createConfirmChannel().then(channel => {
      if (late) return discardChannel(channel);
      this.#listen(channel);
      this.#draining = false;
      this.#strikes = 0;
      this.#orphans = 0;
      this.#channel = channel;
    });
    if ((await withTimeout(opening, OPEN_TIMEOUT_MS, this.options.clock)) !== TIMED_OUT) return;
    late = true;
    throw new Error(`no channel within ${OPEN_TIMEOUT_MS} ms`);
  }

  detach(reason: string): void {
    this.#channel = undefined;
    this.#why = reason;
    this.#settleAll(reason);
  }

  setBlocked(reason: string | undefined): void {
    this.#blocked = reason;
    if (reason !== undefined) this.#giveUpWaiting(`broker blocks publishers (${reason})`);
  }

  #listen(channel: AmqpChannel): void {
    let reason: string | undefined;
    channel.on("error", error => void (reason = reasonOf(error)));
    channel.on("handler-error", error => this.options.logger.error("A publish listener threw:", error));
    channel.on("return", message => {
      const entry = this.#inFlight.get(message.properties.correlationId as string);
      const fields = message.fields as unknown as { replyCode: number; replyText: string };
      if (entry && entry.messageId === message.properties.messageId)
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
      this.detach(reason ?? "connection lost");
      if (reason !== undefined) this.options.onChannelLost(reason);
    });
  }

  #hasRoom(bytes: number): boolean {
    const { window, windowBytes } = this.options;
    if (this.#draining || !this.#channel || this.#inFlight.size >= window) return false;
    // A publish larger than the window is sent alone.
    return this.#inFlight.size === 0 || this.#inFlightBytes + bytes <= windowBytes;
  }

  #send(entry: Entry): void {
    const {
      messageId,
      type,
      body,
      headers,
      appId,
      contentType = "application/json"
    } = entry.publication as Publication;
    const channel = this.#channel as AmqpChannel;
    try {
      // The token separates two attempts of one message when a return comes, since a return has no delivery tag.
      const properties = {
        persistent: true,
        mandatory: true,
        messageId,
        correlationId: entry.token,
        type,
        appId,
        contentType,
        headers: encodable(headers),
        timestamp: Math.floor(this.options.clock.now() / 1000)
      };
      this.#draining = !channel.publish(entry.exchange, entry.routingKey, body, properties, error =>
        this.#answered(channel, entry, error as Error | null)
      );
    } catch (thrown) {
      this.#refused(entry, thrown);
      return;
    }
    entry.publication = undefined;
    entry.deadline = this.options.clock.monotonic() + this.options.confirmTimeoutMs;
    this.#inFlight.set(entry.token, entry);
    this.#inFlightBytes += entry.bytes;
    this.#timer ??= this.#arm(this.options.confirmTimeoutMs);
  }

  /** amqplib encodes before it writes, so nothing has left and the channel is still good; or the channel was closed. */
  #refused(entry: Entry, thrown: unknown): void {
    const text = reasonOf(thrown);
    if (thrown instanceof RangeError && text.includes("field table")) {
      const { messageId, type } = entry.publication as Publication;
      entry.settled = true;
      this.options.onSettled(entry.routingKey);
      entry.reject(
        new ReliableError(
          "RELIABLE_HEADERS_TOO_LARGE",
          `The headers of ${type} (${messageId}) take more than 64 KiB.`,
          { id: messageId, type },
          thrown
        )
      );
      return;
    }
    this.#end(
      entry,
      (thrown as Error).name === "IllegalOperationError"
        ? notSent(text)
        : { outcome: "nacked", reason: `cannot be encoded: ${text}` }
    );
  }

  /** A return, if there is one, has come before its confirm. */
  #answered(channel: AmqpChannel, entry: Entry, error: Error | null): void {
    if (entry.settled) {
      if (channel === this.#channel) this.#orphans--;
      return;
    }
    // The channel is lost: its `close` listener settles all entries, with the reason.
    if (error && error.message !== "message nacked") return;
    this.#strikes = 0;
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
      this.#strikes++;
      if (
        this.#channel &&
        this.#blocked === undefined &&
        (this.#strikes >= MAX_STRIKES || this.#orphans > this.options.window)
      ) {
        this.#recycle(this.#channel);
        return;
      }
      this.#advance();
    }
    const [oldest] = this.#inFlight.values();
    if (oldest) this.#timer ??= this.#arm(Math.max(1, oldest.deadline - this.options.clock.monotonic()));
  }

  #recycle(channel: AmqpChannel): void {
    const reason = "confirms do not come, channel replaced";
    this.detach(reason);
    discardChannel(channel);
    this.options.onChannelLost(reason);
  }
}
