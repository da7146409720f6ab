import type { PublishResult } from "../couriers/courier";
import { ReliableRetryableError } from "../errors";
import { describeError } from "../message/failure-text";
import type { Message, Source } from "../message/message";
import { queueTargetOf } from "../message/queue-target";
import type { Encode } from "../options/hooks";
import { encodeBody } from "../outbound/encoding";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Call } from "../platform/call";
import type { Clock } from "../platform/clock";
import type { Store } from "../stores/store";
import { messageOfEnvelope } from "../wire/check";
import { serialize } from "../wire/json";
import { parseBase, type ResendAnswer, type ResendRequest, UNKNOWN } from "../wire/resend";

export interface ProducerHandlerParts {
  publisher: MessagePublisher;
  store: Store | undefined;
  call: Call;
  clock: Clock;
  askTimeoutMs: number;
  /** Of the namespace's names. */
  prefix: string;
}

/** What the emitting service allows. */
export interface ProducerLimits {
  maxPayloadBytes: number;
  /** It may send to queues that belong to no group (`addAMQPJob`). */
  sendsJobs: boolean;
  /** Actions that it may be asked to call as a source. */
  sources: string[];
  /** Its hook. */
  encode?: Encode | undefined;
}

/** A payload as it is sent. */
type Payload = Pick<Message, "body" | "encoded">;

/** The part of a request that concerns the source. */
type Asked = Pick<ResendRequest, "id" | "event" | "source">;
type Step = ResendRequest["steps"][number];

/** The producer's side of the RPC. Rejects with RELIABLE_UNAVAILABLE if it cannot answer now. */
export class ProducerHandler {
  constructor(private readonly parts: ProducerHandlerParts) {}

  async answer(request: ResendRequest, limits: ProducerLimits): Promise<ResendAnswer> {
    const { id, event, headers, question, steps, round } = request;
    if (question) return this.happened(request, question, limits);
    const groups = () => steps.map(step => step.group);
    const envelope = { messageId: id, type: event, headers, body: Buffer.from(request.body, "base64") };
    const message = messageOfEnvelope(envelope, groups, new Date(this.parts.clock.now()));
    const payload = await this.#payload(request, message, limits);
    if ("answer" in payload) return payload;
    return this.#send({ ...withPayload(message, payload), base: parseBase(headers) }, steps, round, limits);
  }

  /** Like `answer`, for a message whose producer cannot be asked and which this node has complete. */
  async send(message: Message, steps: Step[], round: number, limits: ProducerLimits): Promise<ResendAnswer> {
    const { _id: id, event, source } = message;
    const payload = await this.#payload({ id, event, source }, message, limits);
    if ("answer" in payload) return payload;
    const waiting = steps.map(step => step.group);
    return this.#send({ ...withPayload(message, payload), waiting }, steps, round, limits);
  }

  /**
   * Whether the business write of an intent happened. The fence is written before the question is asked: a business
   * write that has not happened by then cannot happen later without being noticed.
   */
  async happened(asked: Asked, question: "source" | "barrier", limits: ProducerLimits): Promise<ResendAnswer> {
    const { store } = this.parts;
    const fence = store?.features.transactions ? await store.intents.fence(asked.id) : undefined;
    if (question === "barrier" || !asked.source) {
      if (!fence)
        return { answer: "unknown", reason: "the producer's node has no MongoDB to look for the barrier row in" };
      return fence === "committed" ? { answer: "yes" } : { answer: "no" };
    }
    const answer = await this.#askSource(asked, asked.source, limits);
    // The transaction proves the business write, even if the source knows nothing of it.
    if (fence === "committed" && answer.answer === "no")
      return {
        answer: "error",
        error: { name: "SourceMissing", message: "the barrier row says it happened, the source returns nothing" }
      };
    return answer;
  }

  /** The payload, or the answer if there is none to send. */
  async #payload(asked: Asked, known: Payload, limits: ProducerLimits): Promise<Payload | ResendAnswer> {
    let payload = known;
    if (asked.source) {
      const answer = await this.#askSource(asked, asked.source, limits);
      if (answer.answer !== "yes") return answer;
      const { body = "", encoded } = answer;
      payload = { body: Buffer.from(body, "base64"), ...(encoded && { encoded }) };
    }
    if (payload.body.length) return payload;
    return {
      answer: "error",
      error: { name: "NoPayload", message: "neither a payload nor a source is known of it", code: "NO_PAYLOAD" }
    };
  }

  async #send(
    known: Message,
    steps: Step[],
    round: number | undefined,
    { sendsJobs }: ProducerLimits
  ): Promise<ResendAnswer> {
    const message = round ? { ...known, round } : known;
    // The check goes first: if this process dies in between, the check comes again.
    const check = round ? await this.parts.publisher.check(message, round) : undefined;
    const results = await Promise.all(steps.map(step => this.#publish(message, step, sendsJobs)));
    return { answer: "sent", results, ...(check && { check }) };
  }

  #publish(message: Message, { queue, group, attempt }: Step, sendsJobs: boolean): Promise<PublishResult> {
    const { publisher, prefix } = this.parts;
    if (queue === null)
      return group === "*"
        ? publisher.toAll(message, attempt)
        : Promise.resolve({ outcome: "returned", reason: `no queue is known for group ${group}` });
    // The request comes over the transporter: it may name only queues of groups.
    if (!queue.startsWith(`${prefix}.on.`) && !(sendsJobs && queueTargetOf(group)?.queue === queue))
      return Promise.resolve({ outcome: "returned", reason: `${queue} is no group's queue` });
    return publisher.toQueue(message, queue, { group, attempt });
  }

  /** yes with the payload, no, unknown, or error. */
  async #askSource(
    { id, event }: Asked,
    { action, params }: Source,
    { maxPayloadBytes, sources, encode }: ProducerLimits
  ): Promise<ResendAnswer> {
    const { call, askTimeoutMs, clock } = this.parts;
    // The request may come from a message that a stranger has written.
    if (!sources.includes(action))
      return {
        answer: "error",
        error: {
          name: "SourceRefused",
          message: `'${action}' is not in the option 'sources' of the service that is named as its producer`,
          code: "SOURCE_REFUSED"
        }
      };
    try {
      const payload = await call(action, params ?? {}, { timeout: askTimeoutMs });
      if (payload === null || payload === undefined) return { answer: "no" };
      if (payload === UNKNOWN) return { answer: "unknown", reason: `'${action}' cannot say yet` };
      const body = serialize(event, payload, maxPayloadBytes);
      if (!encode) return { answer: "yes", body: body.toString("base64") };
      const limits = { maxPayloadBytes, timeoutMs: askTimeoutMs, clock };
      const encoded = await encodeBody(encode, body, { id, event }, limits);
      return { answer: "yes", body: encoded.toString("base64"), encoded: true };
    } catch (error) {
      const { type, retryable } = error as { type?: string; retryable?: boolean };
      // It may be starting or overloaded. A source that never answers is given up at the limit, since the producer
      // itself does answer.
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

/** The service may have got its hook, or lost it, since it emitted the message. */
function withPayload({ encoded: _, ...message }: Message, payload: Payload): Message {
  return { ...message, ...payload };
}
