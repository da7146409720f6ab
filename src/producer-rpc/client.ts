import { reasonOf } from "../errors";
import { describeError } from "../message/failure-text";
import type { Message } from "../message/message";
import type { Step } from "../outbound/message-publisher";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Call } from "../platform/call";
import type { Logger } from "../platform/logger";
import { headersOf } from "../wire/envelope";
import type { Queues } from "../wire/names";
import { encodePlan } from "../wire/plan";
import { baseHeader, RESEND_ACTION, type ResendAnswer, type ResendRequest } from "../wire/resend";
import type { ProducerHandler, ProducerLimits } from "./handler";

/** No answer came. This does not count against any limit. */
export type ProducerAnswer = ResendAnswer | { answer: "unreachable"; reason: string };

/** Moleculer's errors for a service that does not exist or does not answer. */
const UNREACHABLE = new Set([
  "SERVICE_NOT_FOUND",
  "SERVICE_NOT_AVAILABLE",
  "REQUEST_TIMEOUT",
  "REQUEST_SKIPPED",
  "REQUEST_REJECTED",
  "QUEUE_FULL",
  "BROKER_DISCONNECTED",
  "RELIABLE_NOT_STARTED",
  "RELIABLE_STOPPED",
  "RELIABLE_UNAVAILABLE"
]);

export interface ProducerClientParts {
  call: Call;
  /** Sends for producers that cannot be asked (`resend: "copy"`). */
  handler: ProducerHandler;
  subscriptions: Subscriptions;
  queues: Queues;
  askTimeoutMs: number;
  logger: Logger;
}

/** The limits for a producer that cannot be asked: it has no source to ask and no jobs. */
const NO_SERVICE: ProducerLimits = { maxPayloadBytes: 0, sendsJobs: false, sources: [] };

/**
 * The callback service's side of the RPC: it asks the producer and has it send again. For a producer that cannot be
 * asked, it sends by itself.
 */
export class ProducerClient {
  /** Producers that do not answer. Each is logged once. */
  readonly #silent = new Set<string>();

  constructor(private readonly parts: ProducerClientParts) {}

  /** Whether the business write of an intent happened. */
  ask(message: Message): Promise<ProducerAnswer> {
    const question = message.intent ?? "barrier";
    if (message.resend === "copy") {
      const { _id: id, event, source } = message;
      return answered(this.parts.handler.happened({ id, event, source }, question, NO_SERVICE));
    }
    return this.#call(message, { steps: [], question });
  }

  /** Asks the producer to send the message and its next check again, to these groups. */
  resend(message: Message, groups: Step[]): Promise<ProducerAnswer> {
    const { handler, subscriptions } = this.parts;
    const round = (message.round ?? 1) + 1;
    const steps = groups.map(step => ({ ...step, queue: subscriptions.queueOf(step.group, message.event) ?? null }));
    if (message.resend === "copy") return answered(handler.send(message, steps, round, NO_SERVICE));
    return this.#call(message, { steps, round });
  }

  async #call(message: Message, rest: Pick<ResendRequest, "steps" | "question" | "round">): Promise<ProducerAnswer> {
    const { call, queues, askTimeoutMs } = this.parts;
    const receipts = message.strategy === "callback" ? queues.callbackReceipts : queues.receipts;
    const request: ResendRequest = {
      id: message._id,
      event: message.event,
      headers: { ...headersOf(message, 1, [], receipts, { echo: encodePlan(message) }), ...baseHeader(message.base) },
      body: message.body.toString("base64"),
      ...(message.source && { source: message.source }),
      ...rest
    };
    try {
      const answer = await call(`${message.producer}.${RESEND_ACTION}`, request, { timeout: askTimeoutMs });
      this.#silent.delete(message.producer);
      return answer as ResendAnswer;
    } catch (error) {
      const { type, name = "" } = error as { type?: string; name?: string };
      if ((type && UNREACHABLE.has(type)) || /Timeout|NotFound|NotAvailable|Disconnected/.test(name))
        return this.#unreachable(message.producer, error);
      return { answer: "error", error: describeError(error) };
    }
  }

  #unreachable(producer: string, error: unknown): ProducerAnswer {
    const reason = reasonOf(error);
    if (!this.#silent.has(producer))
      this.parts.logger.warn(
        `Reliable: no instance of the producer '${producer}' answers (${reason}); it will be asked again. Messages of strategy 'callback' and intents need a Moleculer transporter between its node and this one.`
      );
    this.#silent.add(producer);
    return { answer: "unreachable", reason };
  }
}

function answered(answer: Promise<ResendAnswer>): Promise<ProducerAnswer> {
  return answer.catch((error: unknown): ProducerAnswer => ({ answer: "error", error: describeError(error) }));
}
