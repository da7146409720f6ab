import { reasonOf } from "../errors";
import { describeError } from "../message/failure-text";
import type { Message } from "../message/message";
import type { Step } from "../outbound/message-publisher";
import type { Call } from "../platform/call";
import type { Logger } from "../platform/logger";
import { encodePlan } from "../wire/check";
import { headersOf } from "../wire/envelope";
import type { Queues } from "../wire/names";
import { RESEND_ACTION, type ResendAnswer, type ResendRequest } from "../wire/resend";
import type { ProducerHandler } from "./handler";

/** Nobody answered: not counted against any limit. */
export type ProducerAnswer = ResendAnswer | { answer: "unreachable"; reason: string };
/** Moleculer's errors for "there is nobody, or nobody answers". */
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

/**
 * The callback service's side: has the producer asked, and has it send again; for one that cannot be asked (`copies`)
 * it sends itself.
 */
export class ProducerClient {
  /** Producers that do not answer; said once. */
  readonly #silent = new Set<string>();

  constructor(
    readonly parts: {
      call: Call;
      copies: Pick<ProducerHandler, "answer">;
      queueOf(group: string, event: string): string | undefined;
      queues: Queues;
      askTimeoutMs: number;
      logger: Logger;
    }
  ) {}

  /** Whether the business write of an intent happened. */
  ask(message: Message): Promise<ProducerAnswer> {
    return this.#call(message, { steps: [], question: message.intent ?? "barrier" });
  }

  /** Has the message and its next check sent again, to these groups. */
  resend(message: Message, steps: Step[]): Promise<ProducerAnswer> {
    const { queueOf } = this.parts;
    return this.#call(message, {
      steps: steps.map(step => ({ ...step, queue: queueOf(step.group, message.event) ?? null })),
      round: (message.round ?? 1) + 1
    });
  }

  async #call(message: Message, rest: Pick<ResendRequest, "steps" | "question" | "round">): Promise<ProducerAnswer> {
    const { call, copies, queues, askTimeoutMs } = this.parts;
    const headers = headersOf(
      message,
      1,
      [],
      message.strategy === "callback" ? queues.callbackReceipts : queues.receipts,
      encodePlan(message)
    );
    const request: ResendRequest = {
      id: message._id,
      event: message.event,
      headers,
      body: message.body.toString("base64"),
      ...(message.source && { source: message.source }),
      ...rest
    };
    if (message.resend === "copy")
      return copies
        .answer(request)
        .catch((error: unknown): ProducerAnswer => ({ answer: "error", error: describeError(error) }));
    try {
      const answer = (await call(`${message.producer}.${RESEND_ACTION}`, request, {
        timeout: askTimeoutMs
      })) as ResendAnswer;
      this.#silent.delete(message.producer);
      return answer;
    } catch (error) {
      const { type } = error as { type?: string };
      if (
        (type && UNREACHABLE.has(type)) ||
        /Timeout|NotFound|NotAvailable|Disconnected/.test((error as Error).name ?? "")
      )
        return this.#unreachable(message.producer, error);
      return { answer: "error", error: describeError(error) };
    }
  }

  #unreachable(producer: string, error: unknown): ProducerAnswer {
    const reason = reasonOf(error);
    if (!this.#silent.has(producer))
      this.parts.logger.warn(
        `Reliable: nobody answers for the producer '${producer}' (${reason}); it is asked again. Messages of strategy 'callback' and intents need a Moleculer transporter between its node and this one.`
      );
    this.#silent.add(producer);
    return { answer: "unreachable", reason };
  }
}
