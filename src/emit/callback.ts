import { ExpiringSet } from "../async/expiring-set";
import { WaitGroup } from "../async/wait-group";
import type { PublishResult } from "../couriers/courier";
import { ReliableError, ReliableRetryableError } from "../errors";
import { STATUS } from "../message/lifecycle";
import type { Message } from "../message/message";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Metrics } from "../telemetry/metrics";
import { delayOf, encodePlan, MAX_CHECK_BYTES } from "../wire/check";
import { WIRE_VERSION } from "../wire/envelope";
import { WITHDRAWAL_TYPE, type Withdrawal } from "../wire/receipt";
import type { StatusWaiter } from "./status-waiter";
import type { EmitPlan, EmitResult, Strategy } from "./strategy";

/**
 * What is larger goes out one after the other: it takes its time on the wire, and two copies of it would only fill the
 * line.
 */
const MAX_TOGETHER_BYTES = 8192;

export interface CallbackParts {
  publisher: MessagePublisher;
  statusWaiter: StatusWaiter;
  metrics: Metrics;
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
 * Nothing is stored on the producer's path: the delayed check and the message go out together; with `commit` the
 * business write is done between them. See `strategy.ts` for what that promises.
 */
export class Callback implements Strategy {
  readonly #sending = new WaitGroup();
  readonly #unready = new Set<() => void>();
  readonly #pairs = new ExpiringSet<Pair>(pair => this.#judge(pair));

  constructor(readonly parts: CallbackParts) {}

  emit(message: Message, plan: EmitPlan): Promise<EmitResult> {
    const { session, commit, waitFor, timeoutMs } = plan;
    const plain = !session && !commit && waitFor !== "consumed" && message.body.length <= MAX_TOGETHER_BYTES;
    return plain && this.parts.publisher.courier.ready
      ? this.#emitTogether(message, timeoutMs)
      : this.#emitInSteps(message, plan);
  }

  /**
   * Message and check at once: nothing is promised before both are confirmed, and their confirms may come in any order.
   * The message first, since the broker writes what goes into two queues one after the other, and a handler waits for
   * it. Nearly every emit; one promise and no frame of its own, since thousands may be under way.
   */
  #emitTogether(message: Message, timeoutMs: number): Promise<EmitResult> {
    const { publisher } = this.parts;
    return new Promise((resolve, reject) => {
      const pair: Pair = {
        message,
        deadline: performance.now() + timeoutMs,
        check: undefined,
        result: undefined,
        resolve,
        reject
      };
      void publisher.toAll(message, 1).then(answer => {
        pair.result = answer;
        if (pair.check) this.#answered(pair);
      });
      publisher.check(message, 1).then(
        answer => {
          pair.check = answer;
          if (pair.result) this.#answered(pair);
        },
        error => {
          if (this.#pairs.delete(pair)) this.#end(pair, error as Error);
        }
      );
      this.#sending.begin();
      this.#pairs.add(pair);
    });
  }

  #answered(pair: Pair): void {
    if (this.#pairs.delete(pair)) this.#judge(pair);
  }

  /** What has not been answered by now may still be taken. */
  #judge(pair: Pair): void {
    const { message, check = LATE, result = LATE } = pair;
    try {
      this.#mustBeOut(message, check, result);
    } catch (error) {
      return this.#end(pair, error as Error);
    }
    this.#end(pair);
  }

  #end({ message, resolve, reject }: Pair, error?: Error): void {
    this.#sending.end();
    if (error) reject(error);
    else resolve({ id: message._id, status: STATUS.published });
  }

  async #emitInSteps(message: Message, plan: EmitPlan): Promise<EmitResult> {
    const { _id: id, event } = message;
    const until = performance.now() + plan.timeoutMs;
    this.#sending.begin();
    let confirmed: boolean;
    try {
      confirmed = await this.#send(message, plan, until);
    } finally {
      this.#sending.end();
    }
    if (plan.waitFor === "stored" || (plan.waitFor === "confirmed" && confirmed))
      return { id, status: confirmed ? STATUS.published : STATUS.pending };
    return { id, status: await this.parts.statusWaiter.wait(id, event, plan.waitFor, leftOf(until)) };
  }

  idle(): Promise<void> {
    return this.#sending.idle();
  }

  /** Whoever still waits for the broker is rejected. */
  stop(): void {
    for (const giveUp of this.#unready) giveUp();
  }

  /** Resolves when the promise holds: true = the message too is confirmed and routed. */
  async #send(message: Message, plan: EmitPlan, until: number): Promise<boolean> {
    this.#refuse(message, plan);
    if (!this.parts.publisher.courier.ready) await this.#brokerReady(message, plan.timeoutMs);
    if (plan.commit) return this.#sendAround(message, plan, plan.commit, until);
    if (message.body.length > MAX_TOGETHER_BYTES) return this.#sendInTurn(message, until);
    await this.#emitTogether(message, leftOf(until));
    return true;
  }

  /** The message when its check is confirmed. */
  async #sendInTurn(message: Message, until: number): Promise<boolean> {
    const { publisher } = this.parts;
    const check = await answerOf(publisher.check(message, 1), until);
    mustBeConfirmed(message, check);
    this.#mustBeOut(message, check, await answerOf(publisher.toAll(message, 1), until));
    return true;
  }

  /** The business write stands between them. */
  async #sendAround(message: Message, plan: EmitPlan, commit: () => Promise<void>, until: number): Promise<boolean> {
    const { publisher, metrics } = this.parts;
    // Its check says that it comes before the business write.
    message.status = STATUS.intended;
    mustBeConfirmed(message, await answerOf(publisher.check(message, 1), until));
    await this.#commit(message, plan, commit);
    // A business write takes its time; what follows it is not given up for that. It has happened, and its caller must
    // not take it back: the check is out and will see to the message.
    const result = await publisher.toAll(message, 1);
    metrics.outcome(message.event, result.outcome);
    return result.outcome === "confirmed";
  }

  #mustBeOut(message: Message, check: PublishResult, result: PublishResult): void {
    this.parts.metrics.outcome(message.event, result.outcome);
    mustBeConfirmed(message, check, result);
    if (result.outcome !== "confirmed") throw notKnown(message, result, "the message");
  }

  #refuse({ event, body, source }: Message, { session }: EmitPlan): void {
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

  async #commit(message: Message, plan: EmitPlan, commit: () => Promise<void>): Promise<void> {
    const asked = performance.now() + delayOf(message, 1);
    try {
      await commit();
    } catch (error) {
      if ((await plan.rolledBack?.()) !== false) await this.#withdraw(message);
      throw error;
    }
    message.status = STATUS.pending;
    if (performance.now() < asked) return;
    // The question may have been put meanwhile, and answered with "no". A check that asks nothing stands against it.
    message.createdAt = new Date(Math.max(Date.now(), message.createdAt.getTime() + 1));
    const check = await this.parts.publisher.check(message, 1);
    if (check.outcome !== "confirmed")
      throw notKnown(message, check, "the check after its business write, which has happened,");
  }

  /** There is nothing to keep the message in meanwhile but the caller's patience. */
  #brokerReady(message: Message, timeoutMs: number): Promise<void> {
    const { courier } = this.parts.publisher;
    return new Promise((resolve, reject) => {
      const unsubscribe = courier.on("ready", () => done(resolve));
      const error = new ReliableRetryableError(
        "RELIABLE_NOT_STORED",
        `RabbitMQ could not be reached within ${timeoutMs} ms; nothing was sent of '${message.event}' (${message._id}).`,
        { id: message._id, event: message.event, timeoutMs }
      );
      const giveUp = () => done(() => reject(error));
      const timer = setTimeout(giveUp, timeoutMs);
      const done = (settle: () => void) => {
        unsubscribe();
        clearTimeout(timer);
        this.#unready.delete(giveUp);
        settle();
      };
      this.#unready.add(giveUp);
    });
  }

  /** Best effort: should it get lost, the check asks and learns the same. */
  async #withdraw(message: Message): Promise<void> {
    const { publisher } = this.parts;
    const withdrawal: Withdrawal = {
      v: WIRE_VERSION,
      id: message._id,
      echo: { event: message.event, producer: message.producer, plan: encodePlan(message) }
    };
    await publisher.courier.publish({
      to: { queue: publisher.queues.callbackReceipts },
      messageId: message._id,
      type: WITHDRAWAL_TYPE,
      headers: {},
      body: Buffer.from(JSON.stringify(withdrawal))
    });
  }
}

/** What has not been answered in the emit's time may still be taken. */
const LATE: PublishResult = { outcome: "unknown", reason: "no answer within timeoutMs" };

function answerOf(publishing: Promise<PublishResult>, until: number): Promise<PublishResult> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<PublishResult>(resolve => (timer = setTimeout(resolve, leftOf(until), LATE)));
  return Promise.race([publishing, late]).finally(() => clearTimeout(timer));
}

function leftOf(until: number): number {
  return Math.max(0, until - performance.now());
}

function isOut({ outcome, sent }: PublishResult): boolean {
  return outcome === "confirmed" || (outcome === "unknown" && sent !== false);
}

/** `result`: what has become of the message, if that was sent, too. */
function mustBeConfirmed(message: Message, check: PublishResult, result?: PublishResult): void {
  if (check.outcome === "confirmed") return;
  if (isOut(check) || (result && isOut(result))) throw notKnown(message, check, "the check");
  const { _id: id, event } = message;
  const { outcome, reason } = check;
  throw new ReliableRetryableError(
    "RELIABLE_NOT_STORED",
    `The broker did not take the check of '${event}' (${id}): ${outcome}, ${reason}. Nothing was sent.`,
    { id, event, outcome, reason }
  );
}

function notKnown({ _id: id, event }: Message, { outcome, reason }: PublishResult, what: string): Error {
  return new ReliableRetryableError(
    "RELIABLE_OUTCOME_UNKNOWN",
    `It is not known whether '${event}' (${id}) will be delivered: ${what} was ${outcome} (${reason}). Emit it again with this id; groups with an inbox handle it once.`,
    { id, event, outcome, reason }
  );
}
