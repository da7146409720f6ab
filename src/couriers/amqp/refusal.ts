import type { Clock } from "../../platform/clock";

/** Why the broker closed a channel or a connection, if it did so because of a publish. */
export interface Refusal {
  code: number;
  text: string;
}

/** AMQP's class and method of `basic.publish`, which a channel's close names as its cause. */
const PUBLISH = { classId: 60, methodId: 40 };

/** The exchange was deleted, which says nothing of the message: it is declared again. */
const NOT_FOUND = 404;

/**
 * By these the broker closes a whole connection for what it has read: frame error, syntax error, command invalid,
 * unexpected frame, not implemented, internal error. Such a close does not name the method that caused it.
 */
const CLOSES_CONNECTION: ReadonlySet<number> = new Set([501, 502, 503, 505, 540, 541]);

/** undefined = it was closed for another reason, which passes by itself. `closed`: amqplib's error. */
export function refusalOf(closed: unknown): Refusal | undefined {
  const { code, classId, methodId, message } = (closed ?? {}) as Partial<Record<string, unknown>>;
  if (typeof code !== "number" || code === NOT_FOUND) return undefined;
  const byPublish = classId === PUBLISH.classId && methodId === PUBLISH.methodId;
  if (!byPublish && !(classId === undefined && CLOSES_CONNECTION.has(code))) return undefined;
  const text = String(message);
  return { code, text: /with message "(.*)"$/s.exec(text)?.[1] ?? text };
}

/** What is known of a publish that had no answer when its channel was closed. */
export interface Suspect {
  exchange: string;
  routingKey: string;
  bytes: number;
}

/** RabbitMQ 4's default `max_message_size`. */
const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** How long a smaller limit is believed that the broker has named: an operator may raise it. */
const BELIEVED_MS = 60_000;

/** Bytes of a body above which the broker refuses, if its text says so. */
function sizeLimitIn({ text }: Refusal): number | undefined {
  const limit = /message size \d+ is larger than configured max size (\d+)/.exec(text)?.[1];
  return limit === undefined ? undefined : Number(limit);
}

/** The largest body that the broker takes, as far as it has said: what is larger need not be sent to be refused. */
export class SizeLimit {
  #named: { bytes: number; until: number } | undefined;

  constructor(private readonly clock: Clock) {}

  get bytes(): number {
    const named = this.#named;
    return named && named.until > this.clock.monotonic() ? named.bytes : MAX_BODY_BYTES;
  }

  learn(refusal: Refusal): void {
    const bytes = sizeLimitIn(refusal);
    if (bytes !== undefined) this.#named = { bytes, until: this.clock.monotonic() + BELIEVED_MS };
  }
}

/**
 * Those that the refusal means, as far as its text tells; empty if it does not. One that was alone is the one. The
 * texts are RabbitMQ's (`rabbit_channel.erl`: `check_msg_size`, `check_write_permitted`, `check_topic_authorisation`).
 */
export function culpritsAmong<T extends Suspect>(suspects: T[], refusal: Refusal): T[] {
  if (suspects.length === 1) return suspects;
  const limit = sizeLimitIn(refusal);
  if (limit !== undefined) return suspects.filter(({ bytes }) => bytes > limit);
  const exchange = /exchange '([^']*)' in vhost/.exec(refusal.text)?.[1];
  if (exchange === undefined) return [];
  const topic = /access to topic '([^']*)'/.exec(refusal.text)?.[1];
  return suspects.filter(
    suspect => (suspect.exchange || "amq.default") === exchange && (topic === undefined || suspect.routingKey === topic)
  );
}
