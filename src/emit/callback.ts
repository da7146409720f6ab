import { newEnd } from "../async/end";
import { ExpiringSet } from "../async/expiring-set";
import { WaitGroup } from "../async/wait-group";
import type { PublishResult } from "../couriers/courier";
import { ReliableError, ReliableRetryableError } from "../errors";
import { STATUS } from "../message/lifecycle";
import type { Message } from "../message/message";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Clock } from "../platform/clock";
import type { Metrics } from "../telemetry/metrics";
import { MAX_CHECK_BYTES } from "../wire/check";
import { SentIntent } from "./intent";
import {
  assertCheckConfirmed,
  LATE,
  leftOf,
  notRouted,
  outcomeUnknown,
  publishedBy,
  publishRefused
} from "./published";
import type { StatusWaiter } from "./status-waiter";
import { type EmitConditions, type EmitResult, resultOf, type Strategy } from "./strategy";

/** Larger messages are sent one after the other: two copies at once would only fill the line. */
const MAX_TOGETHER_BYTES = 8192;

export interface CallbackParts {
  publisher: MessagePublisher;
  statusWaiter: StatusWaiter;
  metrics: Metrics;
  clock: Clock;
}

/** A check and its message, sent together. */
interface Pair {
  message: Message;
  deadline: number;
  check: PublishResult | undefined;
  result: PublishResult | undefined;
  resolve(result: EmitResult): void;
  reject(error: Error): void;
}

/**
 * Nothing is stored on the producer's path: the delayed check and the message are sent together. With `commit` the
 * business write comes between them. `strategy.ts` says what that promises.
 */
export class Callback implements Strategy {
  readonly #sending = new WaitGroup();
  readonly #end = newEnd();
  readonly #intent: SentIntent;
  readonly #pairs: ExpiringSet<Pair>;

  constructor(readonly parts: CallbackParts) {
    this.#intent = new SentIntent(parts);
    this.#pairs = new ExpiringSet(pair => this.#judge(pair), parts.clock);
  }

  get pending(): number {
    return this.#sending.count;
  }

  /** The courier bounds them. */
  get pendingBytes(): number {
    return 0;
  }

  emit(message: Message, conditions: EmitConditions): Promise<EmitResult> {
    const { session, write, waitFor, timeoutMs } = conditions;
    const plain = !session && !write && waitFor !== "consumed" && message.body.length <= MAX_TOGETHER_BYTES;
    return plain && this.parts.publisher.courier.ready
      ? this.#emitTogether(message, timeoutMs)
      : this.#emitInSteps(message, conditions);
  }

  /**
   * Message and check are sent at once, the check perhaps with others: nothing is promised before both are confirmed,
   * and their confirms may come in any order. The message goes first, since the broker writes what goes into two queues
   * one after the other, and a handler waits for it. Nearly every emit takes this path, and thousands may be under way,
   * so it makes one promise and no frame of its own.
   */
  #emitTogether(message: Message, timeoutMs: number): Promise<EmitResult> {
    const { publisher, clock } = this.parts;
    return new Promise((resolve, reject) => {
      const pair: Pair = {
        message,
        deadline: clock.monotonic() + timeoutMs,
        check: undefined,
        result: undefined,
        resolve,
        reject
      };
      this.#sending.begin();
      this.#pairs.add(pair);
      void publisher.toAll(message, 1).then(answer => {
        pair.result = answer;
        if (pair.check) this.#answered(pair);
      });
      publisher.checkThen(
        message,
        1,
        answer => {
          pair.check = answer;
          if (pair.result) this.#answered(pair);
        },
        error => {
          if (this.#pairs.delete(pair)) this.#settle(pair, error);
        }
      );
    });
  }

  #answered(pair: Pair): void {
    if (this.#pairs.delete(pair)) this.#judge(pair);
  }

  /** A publish that has no answer yet may still succeed. */
  #judge(pair: Pair): void {
    const { message, check = LATE, result = LATE } = pair;
    let failure: Error | undefined;
    try {
      this.#assertPublished(message, check, result);
    } catch (error) {
      failure = error as Error;
    }
    this.#settle(pair, failure);
  }

  #settle({ message, resolve, reject }: Pair, error?: Error): void {
    this.#sending.end();
    if (error) reject(error);
    else resolve(resultOf(message, STATUS.published));
  }

  async #emitInSteps(message: Message, conditions: EmitConditions): Promise<EmitResult> {
    const { _id: id, event } = message;
    const { clock, statusWaiter } = this.parts;
    const until = clock.monotonic() + conditions.timeoutMs;
    this.#sending.begin();
    let confirmed: boolean;
    try {
      confirmed = await this.#send(message, conditions, until);
    } finally {
      this.#sending.end();
    }
    if (conditions.waitFor === "stored" || (conditions.waitFor === "confirmed" && confirmed))
      return resultOf(message, confirmed ? STATUS.published : STATUS.pending);
    return resultOf(message, await statusWaiter.wait(id, event, conditions.waitFor, leftOf(until, clock)));
  }

  idle(): Promise<void> {
    return this.#sending.idle();
  }

  /** Rejects the emits that still wait for the broker. */
  stop(): void {
    this.#end.abort();
  }

  /** Resolves when the promise holds. True = the message itself is confirmed and routed too. */
  async #send(message: Message, conditions: EmitConditions, until: number): Promise<boolean> {
    this.#refuse(message, conditions);
    if (!this.parts.publisher.courier.ready) await this.#brokerReady(message, conditions.timeoutMs);
    if (conditions.write) return this.#intent.write(message, conditions.write, until);
    if (message.body.length > MAX_TOGETHER_BYTES) return this.#sendInTurn(message, until);
    await this.#emitTogether(message, leftOf(until, this.parts.clock));
    return true;
  }

  /** Sends the message once its check is confirmed. */
  async #sendInTurn(message: Message, until: number): Promise<boolean> {
    const { publisher, clock } = this.parts;
    const check = await publishedBy(publisher.check(message, 1), until, clock);
    assertCheckConfirmed(message, check);
    this.#assertPublished(message, check, await publishedBy(publisher.toAll(message, 1), until, clock));
    return true;
  }

  #assertPublished(message: Message, check: PublishResult, result: PublishResult): void {
    this.parts.metrics.outcome(message.event, result.outcome);
    assertCheckConfirmed(message, check, result);
    if (result.outcome === "refused")
      throw publishRefused(
        message,
        result,
        "Its check was taken, so it may be sent again when that comes: handled, or dead, and its story tells which."
      );
    if (result.outcome === "returned") throw notRouted(message, result);
    if (result.outcome !== "confirmed") throw outcomeUnknown(message, result, "the message");
  }

  #refuse({ event, body, source }: Message, { session }: EmitConditions): void {
    if (session)
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        `'session' has nothing to join with strategy 'callback', which stores no message ('${event}'); use 'commit', or strategy 'outbox'.`,
        { option: "session", event }
      );
    if (!source && body.length > MAX_CHECK_BYTES) {
      throw new ReliableError(
        "RELIABLE_PAYLOAD_TOO_LARGE",
        `The payload of '${event}' is ${body.length} bytes, too large to travel in a check (${MAX_CHECK_BYTES}); give 'source', or use strategy 'outbox'.`,
        { event, bytes: body.length, maxCheckBytes: MAX_CHECK_BYTES }
      );
    }
  }

  /** Nothing but the waiting caller keeps the message in the meantime. */
  async #brokerReady(message: Message, timeoutMs: number): Promise<void> {
    const { publisher, clock } = this.parts;
    const ready = new AbortController();
    const wake = () => ready.abort();
    const unsubscribe = publisher.courier.on("ready", wake);
    this.#end.signal.addEventListener("abort", wake);
    await clock.sleep(timeoutMs, ready.signal);
    this.#end.signal.removeEventListener("abort", wake);
    unsubscribe();
    if (ready.signal.aborted && !this.#end.signal.aborted) return;
    throw new ReliableRetryableError(
      "RELIABLE_NOT_STORED",
      `RabbitMQ could not be reached within ${timeoutMs} ms; nothing was sent of '${message.event}' (${message._id}).`,
      { id: message._id, event: message.event, timeoutMs }
    );
  }
}
