import type { PublishResult } from "../couriers/courier";
import { growingPauseMs } from "../message/backoff";
import type { FailureError, Message, Note } from "../message/message";
import type { Step } from "../outbound/message-publisher";
import type { ProducerAnswer } from "../producer-rpc/client";
import type { RescheduleRecord } from "../stores/store-records";
import { delayOf } from "../wire/plan";
import type { Settled, SweepParts } from "./sweep-parts";

/** How a step ended: an outcome of the broker, or a failure of the producer's source. */
export type StepResult = PublishResult | { error: FailureError; retryable: boolean };

export interface Published {
  results: StepResult[];
  /** Number of the check that was sent with it. */
  round?: number;
  /** Since when the producer has not answered; null = it answers again. */
  unreachableSince?: Date | null;
  /** Pause before an attempt with an unknown outcome is repeated. @default the backoff's first */
  pauseMs?: number;
}

/** A producer that is down for hours must not be asked every second for each message. */
function pauseMs({ backoff }: Message, { since, now }: Silence): number {
  return growingPauseMs(backoff, now.getTime() - since.getTime());
}

interface Silence {
  since: Date;
  now: Date;
  /** The producer has been silent for too long. */
  gone: boolean;
}

/** Answers of the producer that another attempt would not change. */
const HOPELESS = new Set<unknown>(["NO_PAYLOAD", "SOURCE_REFUSED"]);

type Answered = Exclude<ProducerAnswer, { answer: "unreachable" }>;

/** undefined = the producer answers. */
function silenceOf(message: Message, asked: ProducerAnswer, now: Date, goneMs: number): Silence | undefined {
  if (asked.answer !== "unreachable") return undefined;
  const since = message.unreachableSince ?? now;
  return { since, now, gone: now.getTime() - since.getTime() >= goneMs };
}

function gone(message: Message, since: Date, reason: string): FailureError {
  return {
    name: "ProducerGone",
    message: `the producer '${message.producer}' has not answered since ${since.toISOString()}: ${reason}`,
    code: "PRODUCER_GONE"
  };
}

/**
 * An RPC to the emitting service, which sends the message and the next check. Only answers count against the limit of
 * attempts.
 */
export async function resendByProducer(
  { producerClient, store, producerGoneMs }: SweepParts,
  message: Message,
  steps: Step[]
): Promise<Published> {
  const asked = await producerClient.resend(message, steps);
  const each = (result: StepResult, rest: Partial<Published> = {}): Published => ({
    results: steps.map(() => result),
    unreachableSince: message.unreachableSince ? null : undefined,
    ...rest
  });
  if (asked.answer === "unreachable") {
    const silence = silenceOf(message, asked, store.now(), producerGoneMs) as Silence;
    if (silence.gone)
      return each(
        { error: gone(message, silence.since, asked.reason), retryable: false },
        { unreachableSince: undefined }
      );
    return each(
      { outcome: "unknown", reason: asked.reason },
      { unreachableSince: silence.since, pauseMs: pauseMs(message, silence) }
    );
  }
  return byAnswer(asked, message, each);
}

function byAnswer(asked: Answered, message: Message, each: (result: StepResult) => Published): Published {
  switch (asked.answer) {
    case "sent": {
      const base = each({ outcome: "unknown" });
      // If its check was not sent, the round would end without being noticed: the due time of the row takes over.
      return { ...base, results: asked.results, round: (message.round ?? 1) + 1 };
    }
    case "no":
      return each({
        error: { name: "SourceEmpty", message: "the source returns nothing for it (any more)", code: "SOURCE_EMPTY" },
        retryable: false
      });
    case "unknown":
      return each({ error: { name: "SourceUnknown", message: asked.reason, code: "SOURCE_UNKNOWN" }, retryable: true });
    case "error":
      return each({ error: asked.error, retryable: !HOPELESS.has(asked.error.code) });
    case "yes":
      return each({
        error: { name: "BadAnswer", message: "the producer answered a question that was not put" },
        retryable: true
      });
  }
}

/**
 * An intent is due: did its business write happen? yes → pending, the next pass sends it; no → withdrawn; unknown or an
 * error → asked again after the next delay, `dead` at the limit; no answer → asked again, not counted.
 */
export async function askIntent(parts: SweepParts, message: Message, claim: string): Promise<Settled> {
  const { store, producerClient, logger } = parts;
  const { _id: id } = message;
  const asked = await producerClient.ask(message);
  const at = store.now();
  const again = (ms: number, rest: Partial<RescheduleRecord> = {}): Settled => ({
    record: { id, claim, dueAt: new Date(at.getTime() + ms), ...rest },
    failures: []
  });
  const left: Settled = { failures: [] };
  const silence = silenceOf(message, asked, at, parts.producerGoneMs);
  if (silence) {
    if (!silence.gone) return again(pauseMs(message, silence), { unreachableSince: silence.since });
    await expire(parts, message, gone(message, silence.since, (asked as { reason: string }).reason), at);
    return left;
  }
  const rest = message.unreachableSince ? { unreachableSince: null } : {};
  switch (asked.answer) {
    case "yes":
      await store.intents.happened(id, at, {
        ...(asked.body !== undefined && {
          body: Buffer.from(asked.body, "base64"),
          encoded: asked.encoded === true
        }),
        note: {
          at,
          by: parts.nodeID,
          act: "happened",
          note: `'${message.producer}' was asked: its business write has happened`
        }
      });
      return left;
    case "no": {
      const note: Note = {
        at,
        by: parts.nodeID,
        act: "withdraw",
        note: `'${message.producer}' was asked: its business write has not happened`
      };
      await store.intents.withdraw(id, note);
      logger.debug(`Reliable: intent ${id} is withdrawn.`);
      return left;
    }
    default: {
      const asks = (message.asks ?? 0) + 1;
      const error =
        asked.answer === "error"
          ? asked.error
          : {
              name: "SourceUnknown",
              message: asked.answer === "unknown" ? asked.reason : "unexpected answer",
              code: "SOURCE_UNKNOWN"
            };
      const limit = message.delays?.length ?? message.maxAttempts;
      const note: Note = {
        at,
        by: parts.nodeID,
        act: "asked",
        note: `no clear answer: ${error.message}`.slice(0, 500)
      };
      if (asks < limit && !HOPELESS.has(error.code)) return again(delayOf(message, asks + 1), { asks, note, ...rest });
      await expire(parts, message, error, at);
      return left;
    }
  }
}

async function expire({ progress }: SweepParts, message: Message, error: FailureError, at: Date): Promise<void> {
  const reason = `source: it is not known whether the business write happened: ${error.message}`.slice(0, 500);
  await progress.intentExpired(message, { at, cause: "source", error }, reason);
}
