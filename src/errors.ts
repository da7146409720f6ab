import { Errors } from "moleculer";

/**
 * Every error of the library has a stable `type`, tells by `retryable` whether doing the same again can help,
 * and names in `data` the option, event, id or queue it is about. `cause` keeps what was underneath.
 */
export type ErrorType =
  | "RELIABLE_WRONG_VERSION"
  | "RELIABLE_BAD_OPTION"
  | "RELIABLE_BAD_EVENT"
  | "RELIABLE_BAD_PAYLOAD"
  | "RELIABLE_PAYLOAD_TOO_LARGE"
  | "RELIABLE_HEADERS_TOO_LARGE"
  | "RELIABLE_BAD_SESSION"
  | "RELIABLE_DUPLICATE_ID"
  | "RELIABLE_BAD_CONSUMER"
  | "RELIABLE_NOT_STARTED"
  | "RELIABLE_STOPPED"
  | "RELIABLE_NO_STORE"
  | "RELIABLE_ACCESS_REFUSED"
  | "RELIABLE_TLS_FAILED"
  | "RELIABLE_QUEUE_MISMATCH"
  | "RELIABLE_QUEUE_MISSING"
  | "RELIABLE_NOT_FOUND"
  | "RELIABLE_ILLEGAL_TRANSITION"
  | "RELIABLE_GROUP_ACTIVE"
  | "RELIABLE_HANDLER_TIMEOUT"
  | "RELIABLE_HANDLER_NOT_REACHED"
  | "RELIABLE_NACKED"
  | "RELIABLE_BAD_ACK"
  | "RELIABLE_UNSUPPORTED"
  | "RELIABLE_WITHDRAWN"
  | "RELIABLE_DEAD"
  | "RELIABLE_PARKED"
  | "RELIABLE_NOT_STORED"
  | "RELIABLE_OUTCOME_UNKNOWN"
  | "RELIABLE_WAIT_TIMEOUT"
  | "RELIABLE_UNAVAILABLE";

export interface ErrorData {
  [key: string]: unknown;
}

/** The caller asked for something that cannot be done; the same call will fail again. */
export class ReliableError extends Errors.MoleculerError {
  declare readonly type: ErrorType;

  constructor(type: ErrorType, message: string, data: ErrorData = {}, cause?: unknown) {
    super(message, 422, type, data);
    if (cause !== undefined) (this as { cause?: unknown }).cause = sanitizeError(cause);
  }
}

/** Something around us is down, slow or lost; the same call may succeed later. */
export class ReliableRetryableError extends Errors.MoleculerRetryableError {
  declare readonly type: ErrorType;

  constructor(type: ErrorType, message: string, data: ErrorData = {}, cause?: unknown) {
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

/** Text of anything that was thrown; credentials in addresses are masked, so it may be logged and stored. */
export function reasonOf(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  return redact(text);
}

/**
 * Masks `user:password@` in anything that looks like an address, up to the last @: people forget to encode what a
 * password has of / and @.
 */
export function redact(text: string): string {
  return text.replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s"'`<>]*@/gi, "$1***@");
}

/**
 * What may be kept, logged and told of a driver's error: its name, texts and code. Its other fields hold the request:
 * ioredis' the AUTH command with the password, MongoDB's the documents it refused.
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
