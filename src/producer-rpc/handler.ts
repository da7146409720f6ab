import type { PublishResult } from "../couriers/courier";
import { ReliableRetryableError } from "../errors";
import { describeError } from "../message/failure-text";
import type { Message, Source } from "../message/message";
import { queueTargetOf } from "../message/queue-target";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Call } from "../platform/call";
import type { Store } from "../stores/store";
import { rowOf } from "../wire/check";
import { serialize } from "../wire/json";
import { type ResendAnswer, type ResendRequest, UNKNOWN } from "../wire/resend";

/** The producer's side. Rejects with RELIABLE_UNAVAILABLE where it cannot say now. */
export class ProducerHandler {
  constructor(
    readonly parts: {
      publisher: MessagePublisher;
      store: Store | undefined;
      call: Call;
      askTimeoutMs: number;
      maxPayloadBytes: number;
      prefix: string;
      sendsJobs: boolean;
    }
  ) {}

  async answer(request: ResendRequest): Promise<ResendAnswer> {
    return request.question ? this.#happened(request, request.question) : this.#send(request);
  }

  /** The fence comes before the question: what has not happened when it is asked cannot happen afterwards unseen. */
  async #happened(request: ResendRequest, question: "source" | "barrier"): Promise<ResendAnswer> {
    const { store } = this.parts;
    const fence = store?.features.transactions ? await store.fence(request.id) : undefined;
    if (question === "barrier" || !request.source) {
      if (!fence)
        return { answer: "unknown", reason: "the producer's node has no MongoDB to look for the barrier row in" };
      return fence === "committed" ? { answer: "yes" } : { answer: "no" };
    }
    const asked = await this.#source(request, request.source);
    // The business write is proven by its own transaction, whatever the source says of it.
    if (fence === "committed" && asked.answer === "no")
      return {
        answer: "error",
        error: { name: "SourceMissing", message: "the barrier row says it happened, the source returns nothing" }
      };
    return asked;
  }

  async #send(request: ResendRequest): Promise<ResendAnswer> {
    const { publisher } = this.parts;
    let body = Buffer.from(request.body, "base64");
    if (request.source) {
      const asked = await this.#source(request, request.source);
      if (asked.answer !== "yes") return asked;
      body = Buffer.from(asked.body ?? "", "base64");
    }
    if (!body.length)
      return {
        answer: "error",
        error: { name: "NoPayload", message: "neither a payload nor a source is known of it", code: "NO_PAYLOAD" }
      };
    const message = rowOf(
      { messageId: request.id, type: request.event, headers: request.headers, body },
      () => request.steps.map(step => step.group),
      new Date()
    );
    // The check first: should this process die in between, it comes again.
    const check = request.round ? await publisher.check(message, request.round) : undefined;
    const results = await Promise.all(request.steps.map(step => this.#publish(message, step)));
    return { answer: "sent", results, ...(check && { check }) };
  }

  #publish(message: Message, { queue, group, attempt }: ResendRequest["steps"][number]): Promise<PublishResult> {
    const { publisher, prefix, sendsJobs } = this.parts;
    if (queue === null)
      return group === "*"
        ? publisher.toAll(message, attempt)
        : Promise.resolve({ outcome: "returned", reason: `no queue is known for group ${group}` });
    // The request comes over the transporter: it may name queues of groups only.
    if (!queue.startsWith(`${prefix}.on.`) && !(sendsJobs && queueTargetOf(group)?.queue === queue))
      return Promise.resolve({ outcome: "returned", reason: `${queue} is no group's queue` });
    return publisher.toQueue(message, queue, { group, attempt });
  }

  /** yes with the payload, no, unknown, or error. */
  async #source({ id, event }: ResendRequest, { action, params }: Source): Promise<ResendAnswer> {
    const { call, askTimeoutMs, maxPayloadBytes } = this.parts;
    try {
      const payload = await call(action, params ?? {}, { timeout: askTimeoutMs });
      if (payload === null || payload === undefined) return { answer: "no" };
      if (payload === UNKNOWN) return { answer: "unknown", reason: `'${action}' cannot say yet` };
      return { answer: "yes", body: serialize(event, payload, maxPayloadBytes).toString("base64") };
    } catch (error) {
      const { type, retryable } = error as { type?: string; retryable?: boolean };
      // It may be starting or overloaded. A source that never comes ends at the limit: the producer has answered.
      if (retryable && type === "REQUEST_TIMEOUT")
        throw new ReliableRetryableError(
          "RELIABLE_UNAVAILABLE",
          `The source '${action}' of message ${id} did not answer in time.`,
          { id, action },
          error
        );
      return { answer: "error", error: describeError(error) };
    }
  }
}
