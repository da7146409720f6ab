import { Errors } from "moleculer";

/**
 * Every error type of the library: whether doing the same again can help (`retryable`, which decides the class), and
 * what it says. `docs/reference/errors.md` is made from this.
 */
export const ERRORS = {
  RELIABLE_WRONG_VERSION: {
    retryable: false,
    text: "Moleculer is older than 0.14.12, or RabbitMQ older than 3.10; or another version of this package has the same Moleculer broker, or the same embedded default, in one process (copies of one version work as one)"
  },
  RELIABLE_BAD_OPTION: {
    retryable: false,
    text: "an option, of the mixin, of an emit or of an action, is unknown, of the wrong type or out of range; or a name (of the namespace or the database) is one that a server would change or refuse"
  },
  RELIABLE_BAD_EVENT: {
    retryable: false,
    text: "the event's name is empty, too long, or begins with `$`, or has a wildcard in it"
  },
  RELIABLE_BAD_PAYLOAD: {
    retryable: false,
    text: "JSON cannot carry the payload; the text names the place (`payload.order.total is a Promise: was an await forgotten?`)"
  },
  RELIABLE_NOT_ENCODED: {
    retryable: true,
    text: "the service's hook `encode` has failed, or did not answer in time; nothing was stored; `cause` is its error"
  },
  RELIABLE_NOT_DECODED: {
    retryable: true,
    text: "recorded on a message: its payload is encoded, and the consuming service's hook `decode` has failed, or it has none; see [personal data](../guide/personal-data.md#encrypt-payloads)"
  },
  RELIABLE_PAYLOAD_TOO_LARGE: {
    retryable: false,
    text: "over `maxPayloadBytes`; store it and emit a reference"
  },
  RELIABLE_HEADERS_TOO_LARGE: {
    retryable: false,
    text: "`meta` and `headers` do not fit into an AMQP frame"
  },
  RELIABLE_BAD_SESSION: {
    retryable: false,
    text: "`session` is not of the client given as `mongo`, or its transaction was over before the message was stored in it, or the store has no transactions; nothing was stored"
  },
  RELIABLE_DUPLICATE_ID: {
    retryable: false,
    text: "the `id` was used before with another event or payload; nothing was stored"
  },
  RELIABLE_BAD_CONSUMER: {
    retryable: false,
    text: "a reliable event cannot be one, or two services of a group declare it differently"
  },
  RELIABLE_NOT_STARTED: {
    retryable: false,
    text: "an emit before `started()`"
  },
  RELIABLE_STOPPED: {
    retryable: false,
    text: "the node has stopped; nothing was stored"
  },
  RELIABLE_NO_STORE: {
    retryable: false,
    text: "this node has no store: it can consume, and emit with strategy `callback` only"
  },
  RELIABLE_ACCESS_REFUSED: {
    retryable: false,
    text: "a server refuses the credentials, or the user may not do what is needed"
  },
  RELIABLE_SHARD_KEY: {
    retryable: false,
    text: "a collection of the store is sharded by a key that does not keep ids unique (docs/guide/servers.md, Shard key)"
  },
  RELIABLE_TLS_FAILED: {
    retryable: false,
    text: "a server's certificate is not accepted (authority, host name, dates), or ours is not, or there is no TLS at the other end; see [TLS](../guide/servers.md#tls)"
  },
  RELIABLE_QUEUE_MISMATCH: {
    retryable: false,
    text: "a queue or the exchange exists with other arguments; see [what to do](../guide/operating.md#a-queue-that-does-not-match)"
  },
  RELIABLE_QUEUE_MISSING: {
    retryable: false,
    text: "emitted as [`$reliable.error`](../guide/metrics-and-tracing.md#lifecycle-events): a queue that was there does not exist any more (deleted, or taken by a policy's `expires`); messages for its group wait until its service declares it again, or until `reliable forget`; `data` names the queue"
  },
  RELIABLE_DISPLACED: {
    retryable: false,
    text: "emitted as [`$reliable.error`](../guide/metrics-and-tracing.md#lifecycle-events): RabbitMQ took messages out of a queue of ours before a consumer did, most likely by a [policy](../guide/servers.md#policies); they come again and no attempt is counted; `data` names queue, `x-death` reason and number"
  },
  RELIABLE_TOO_MANY_CHANNELS: {
    retryable: false,
    text: "a node needs more channels than RabbitMQ allows a connection (`channel_max`); `data` names the limit and the number; spread its services over more nodes, or raise the limit"
  },
  RELIABLE_TOO_MANY_GROUPS: {
    retryable: false,
    text: "emitted as [`$reliable.error`](../guide/metrics-and-tracing.md#lifecycle-events): 5,000 groups and patterns are known, and more were announced; `reliable forget` those that are gone, and look who writes to the queue of announcements"
  },
  RELIABLE_BULK_RUNNING: {
    retryable: false,
    text: "a bulk act of the same kind and filter is under way; `data` has its id and who began it"
  },
  RELIABLE_NOT_FOUND: {
    retryable: false,
    text: "no such message or group"
  },
  RELIABLE_ILLEGAL_TRANSITION: {
    retryable: false,
    text: "the message's status does not allow this operation"
  },
  RELIABLE_GROUP_ACTIVE: {
    retryable: false,
    text: "every handler meant has consumers, and what lives cannot be forgotten"
  },
  RELIABLE_HANDLER_TIMEOUT: {
    retryable: true,
    text: "recorded on a message: the handler did not end within `handlerTimeoutMs`"
  },
  RELIABLE_CONFLICT: {
    retryable: true,
    text: 'recorded on a message: the transaction of a handler with `inbox: "transaction"` was undone by conflicts, run after run, until its runs or its `handlerTimeoutMs` were used up; `data` names the runs'
  },
  RELIABLE_HANDLER_NOT_REACHED: {
    retryable: false,
    text: "recorded on a message: a middleware answered and the handler never ran"
  },
  RELIABLE_NACKED: {
    retryable: true,
    text: "recorded on a message: the handler of a [queue](../guide/moleculer-amqp-queue.md) answered with `nack` or `reject` and wants it again"
  },
  RELIABLE_REJECTED: {
    retryable: false,
    text: "recorded on a message: the handler of a [queue](../guide/moleculer-amqp-queue.md) answered with `nack` or `reject` without requeue; it is not tried again"
  },
  RELIABLE_BAD_ACK: {
    retryable: false,
    text: "thrown by `channel.ack` and its like in the handler of a [queue](../guide/moleculer-amqp-queue.md): answered before, not delivered here, or its channel is gone"
  },
  RELIABLE_UNSUPPORTED: {
    retryable: false,
    text: "a method of an amqplib channel that handlers of [queues](../guide/moleculer-amqp-queue.md) do not have; or a node is asked for what it does not do (a bulk act, on an [observer](../guide/dashboard.md#beside-a-cluster))"
  },
  RELIABLE_WITHDRAWN: {
    retryable: false,
    text: "`message.barrier()`: the intent was given up before the business write was committed; let the transaction abort"
  },
  RELIABLE_DEAD: {
    retryable: false,
    text: "the message an emit was waiting for (`waitFor`) became dead: a group has failed for good"
  },
  RELIABLE_RESOLVED: {
    retryable: false,
    text: 'the message an emit was waiting for (`waitFor: "consumed"`) was closed by a human (`resolve`, `forget`) before every group had handled it'
  },
  RELIABLE_PARKED: {
    retryable: false,
    text: "emitted as [`$reliable.error`](../guide/metrics-and-tracing.md#lifecycle-events): something from the wire could not be read, and is kept with its bytes; `data` names its queue and the reason"
  },
  RELIABLE_NOT_STORED: {
    retryable: true,
    text: "nothing was stored, because a server could not be reached in time; emit again"
  },
  RELIABLE_PUBLISH_REFUSED: {
    retryable: false,
    text: "RabbitMQ closes its channel on this message: too large for its `max_message_size`, or the user may not send it; with `callback` the emit is rejected; what is stored is tried again, straight into the queues of its groups, and ends as `dead` if those are refused too"
  },
  RELIABLE_STORE_REFUSED: {
    retryable: false,
    text: "the store refused the message for what it is (a validator, a unique index of your own, which `data.index` names); nothing was stored. Emitted as [`$reliable.error`](../guide/metrics-and-tracing.md#lifecycle-events): the store refused a change of a message; the change was made in a short form, or the message is `dead` now"
  },
  RELIABLE_UNREADABLE_ROW: {
    retryable: false,
    text: "a row in the store is damaged, or was written by another version of this library; it is left as it is, and no other waits for it"
  },
  RELIABLE_LOCK_LOST: {
    retryable: false,
    text: "another process has taken the folder of the embedded store (`path`), because this one was paused for too long; nothing more is written, and emits are rejected; restart it"
  },
  RELIABLE_OUTCOME_UNKNOWN: {
    retryable: true,
    text: "the store was asked and did not answer; emit again with the same `id`"
  },
  RELIABLE_WAIT_TIMEOUT: {
    retryable: true,
    text: "stored, but not yet what `waitFor` asked for; it goes on"
  },
  RELIABLE_WAIT_STOPPED: {
    retryable: true,
    text: "stored; the node stopped while the emit waited for `waitFor`"
  },
  RELIABLE_NOT_SETTLED: {
    retryable: true,
    text: "of the [test kit](../guide/testing.md#settled): what a test waits for does not come in `timeoutMs`, or not by time alone; `data.open` lists the messages that are open, and why"
  },
  RELIABLE_UNAVAILABLE: {
    retryable: true,
    text: "a server does not answer; or an emit was refused at once, since its node is [overloaded](../guide/operating.md#overload) (`admission`) or too many wait for a server (`maxPending`): nothing was stored (`data.stored` is false), emit again after `data.retryAfterMs`"
  }
} as const satisfies Record<string, { retryable: boolean; text: string }>;

export type ErrorType = keyof typeof ERRORS;

type RetryableType = {
  [T in ErrorType]: (typeof ERRORS)[T]["retryable"] extends true ? T : never;
}[ErrorType];

type FinalType = Exclude<ErrorType, RetryableType>;

/** What an error is about: the option, event, id, group or queue. */
export interface ErrorData {
  [key: string]: unknown;
}

/** The caller asked for something that cannot be done. The same call will fail again. */
export class ReliableError extends Errors.MoleculerError {
  declare readonly type: FinalType;

  constructor(type: FinalType, message: string, data: ErrorData = {}, cause?: unknown) {
    super(message, 422, type, data);
    if (cause !== undefined) (this as { cause?: unknown }).cause = sanitizeError(cause);
  }
}

/** A server, node or service is down, slow or lost. The same call may succeed later. */
export class ReliableRetryableError extends Errors.MoleculerRetryableError {
  declare readonly type: RetryableType;

  constructor(type: RetryableType, message: string, data: ErrorData = {}, cause?: unknown) {
    super(message, 503, type, data);
    if (cause !== undefined) (this as { cause?: unknown }).cause = sanitizeError(cause);
  }
}

/** The handler's chain ended without an error and without reaching the handler. */
export function handlerNotReached(event: string, group: string): ReliableError {
  return new ReliableError(
    "RELIABLE_HANDLER_NOT_REACHED",
    `A middleware answered for the handler of '${event}' in group ${group}; it never ran.`,
    { event, group }
  );
}

/** Text of any thrown value. Credentials in addresses are masked, so it may be logged and stored. */
export function reasonOf(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  return redact(text);
}

/**
 * Masks `user:password@` in anything that looks like an address, up to the last @: many passwords contain a / or @ that
 * should have been encoded.
 */
export function redact(text: string): string {
  const end = /[\s"'`<>]|$/g;
  let masked = "";
  let from = 0;
  // Text of others may be long. Each character is looked at a fixed number of times.
  for (let at = text.indexOf("://"); at >= 0; at = text.indexOf("://", end.lastIndex)) {
    end.lastIndex = at + 3;
    const address = text.slice(at + 3, end.exec(text)?.index);
    end.lastIndex = at + 3 + address.length;
    const last = address.lastIndexOf("@");
    if (last < 0) continue;
    masked += `${text.slice(from, at + 3)}***`;
    from = at + 3 + last;
  }
  return masked + text.slice(from);
}

/**
 * The parts of a driver's error that may be kept, logged and shown: its name, texts and code. Its other fields hold the
 * request: the AUTH command with the password in ioredis, the refused documents in MongoDB.
 */
export function sanitizeError(thrown: unknown): Error {
  if (thrown instanceof ReliableError || thrown instanceof ReliableRetryableError) return thrown;
  const { name, stack, code, type, cause } = (thrown instanceof Error ? thrown : {}) as Error & {
    code?: unknown;
    type?: unknown;
  };
  const own = {
    name,
    stack: stack && redact(stack),
    code,
    type,
    cause: cause === undefined ? undefined : sanitizeError(cause)
  };
  const copy = new Error(reasonOf(thrown));
  for (const [field, value] of Object.entries(own))
    if (value !== undefined)
      Object.defineProperty(copy, field, {
        value,
        writable: true,
        configurable: true,
        enumerable: field === "code" || field === "type"
      });
  return copy;
}
