import { ReliableError, ReliableRetryableError, reasonOf } from "../../errors";

/** What any version of the driver throws; versions cannot be told apart by `instanceof`. */
interface DriverError extends Error {
  code?: number | string;
  errorLabels?: string[];
  hasErrorLabel?(label: string): boolean;
}

/** Unauthorized, AuthenticationFailed. */
const ACCESS_CODES = [13, 18];

/** Atlas answers so for both, and also for what passes: a quota, a limit of the tier. */
const ATLAS_CODE = 8000;
const ATLAS_ACCESS = /auth|not allowed/i;

/**
 * The server has read the command and will always refuse it: BadValue, FailedToParse, TypeMismatch, key and size
 * limits, a validator.
 */
const REFUSAL_CODES = [2, 9, 14, 52, 56, 57, 121, 10334, 17280, 17419, 17420];

export const DUPLICATE_KEY = 11000;

const ID_INDEX = "_id_";

/** What is said so of a quota or a rate is not about the record. */
const ATLAS_PASSING = /quota|rate limit|too many/i;

/**
 * Of one record of a batch these say nothing about the record: not primary, interrupted, timed out, no disk, throttled,
 * conflicts, stale routing. Any other answer to one record is about what it is.
 */
const PASSING_CODES = [
  6, 7, 24, 46, 50, 63, 64, 89, 91, 100, 107, 112, 117, 133, 134, 150, 189, 202, 246, 251, 262, 290, 9001, 10058, 10107,
  11600, 11601, 11602, 13388, 13435, 13436, 14031, 16500
];

/** Of the server's text, which may quote what was refused. */
const MAX_REASON = 500;

/**
 * Errors of the socket. The driver sometimes passes one on unchanged, when the connection is reset while a command is
 * written.
 */
function isSystemError(thrown: unknown): boolean {
  return thrown instanceof Error && typeof (thrown as NodeJS.ErrnoException).syscall === "string";
}

function isDriverError(thrown: unknown): thrown is DriverError {
  return thrown instanceof Error && (thrown.name.startsWith("Mongo") || thrown.name.startsWith("BSON"));
}

/** The `_id` is there. Another unique index, of the operator's own, is another matter. */
export function isDuplicate(thrown: unknown): boolean {
  return isDriverError(thrown) && isDuplicateId(thrown);
}

interface Answer {
  code?: number | string | undefined;
  message?: string | undefined;
  errmsg?: string | undefined;
  keyPattern?: Record<string, unknown>;
}

export function isDuplicateId(answer: Answer): boolean {
  const index = uniqueIndexOf(answer);
  return answer.code === DUPLICATE_KEY && (index === undefined || index === ID_INDEX);
}

/** The index that answered E11000; undefined = it does not say. Older drivers keep its text alone. */
function uniqueIndexOf({ code, message, errmsg = message ?? "", keyPattern }: Answer): string | undefined {
  if (code !== DUPLICATE_KEY) return undefined;
  // A clustered collection has no index of that name.
  if (Object.keys(keyPattern ?? {}).join() === "_id") return ID_INDEX;
  return /index: (.+?)(?: dup key|$)/.exec(errmsg)?.[1] ?? (keyPattern && JSON.stringify(keyPattern));
}

/** How the server answers one record of a batch. */
export interface RecordAnswer extends Answer {
  index: number;
}

/** Whether it answers each record by itself. Then others of the batch are done. */
export function isOfOneRecord(thrown: unknown): thrown is RecordAnswer {
  return isDriverError(thrown) && typeof (thrown as { index?: unknown }).index === "number";
}

export function errorOfRecord(what: string, answer: RecordAnswer): ReliableError | ReliableRetryableError {
  const { code, errmsg, message = errmsg ?? "" } = answer;
  const cause = Object.assign(new Error(message), { code });
  if (isAccessRefused(cause)) return accessRefused(what, cause);
  const passes = code === undefined || PASSING_CODES.includes(code as number);
  return passes || (code === ATLAS_CODE && ATLAS_PASSING.test(message))
    ? unavailable(what, cause)
    : refusal(what, answer, cause);
}

function refusal(what: string, answer: Answer, cause: Error): ReliableError {
  const index = uniqueIndexOf(answer);
  const why = reasonOf(cause).slice(0, MAX_REASON);
  return new ReliableError(
    "RELIABLE_STORE_REFUSED",
    `MongoDB refused ${what}${index === undefined ? "" : ` (unique index '${index}')`}: ${why}`,
    { store: "mongodb", step: what, ...(index !== undefined && { index }) },
    cause
  );
}

/** Errors that `withTransaction` repeats. It must get them as the driver has thrown them. */
export function isTransient(thrown: unknown): boolean {
  return isDriverError(thrown) && thrown.hasErrorLabel?.("TransientTransactionError") === true;
}

/** The command may have been done: its answer was lost with the connection, or did not come in time. */
export function isUnanswered(thrown: unknown): boolean {
  if (thrown instanceof ReliableRetryableError || isSystemError(thrown)) return true;
  return isDriverError(thrown) && thrown.name.startsWith("MongoNetwork");
}

/** The driver's error for a session of another client, or of another copy of the driver. */
export function isForeignSession(thrown: unknown): boolean {
  return (
    isDriverError(thrown) &&
    /session must be|from the same MongoClient|expired sessions?|session that has ended/i.test(thrown.message)
  );
}

export function unavailable(what: string, cause?: unknown): ReliableRetryableError {
  return new ReliableRetryableError(
    "RELIABLE_UNAVAILABLE",
    `MongoDB: ${what} failed: ${cause === undefined ? "not connected" : reasonOf(cause)}`,
    { store: "mongodb", step: what },
    cause
  );
}

function accessRefused(what: string, cause: Error): ReliableError {
  return new ReliableError(
    "RELIABLE_ACCESS_REFUSED",
    `MongoDB refused ${what}: ${reasonOf(cause)}. Check user, password, authSource and roles (readWrite on the database).`,
    { store: "mongodb", step: what },
    cause
  );
}

function isAccessRefused({ code, message }: Pick<DriverError, "code" | "message">): boolean {
  return ACCESS_CODES.includes(code as number) || (code === ATLAS_CODE && ATLAS_ACCESS.test(message));
}

/**
 * This library's error for a driver's error. An error that is not known to be final may pass, or its outcome is
 * unknown: RELIABLE_UNAVAILABLE.
 */
export function mongoError(what: string, thrown: unknown): unknown {
  if (isSystemError(thrown)) return unavailable(what, thrown);
  if (!isDriverError(thrown)) return thrown;
  if (isAccessRefused(thrown)) return accessRefused(what, thrown);
  if (isOfOneRecord(thrown) && !isDuplicate(thrown)) return errorOfRecord(what, thrown);
  const isRefused =
    REFUSAL_CODES.includes(thrown.code as number) ||
    (thrown.code === DUPLICATE_KEY && !isDuplicate(thrown)) ||
    thrown.name.startsWith("BSON") ||
    thrown.name === "MongoInvalidArgumentError";
  return isRefused ? refusal(what, thrown, thrown) : unavailable(what, thrown);
}

/** Errors of an address or client options that can never work. */
export function isBadAddress(thrown: unknown): boolean {
  return (
    isDriverError(thrown) &&
    ["MongoParseError", "MongoInvalidArgumentError", "MongoMissingDependencyError"].includes(thrown.name)
  );
}
