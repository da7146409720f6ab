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

export function isDuplicate(thrown: unknown): boolean {
  return isDriverError(thrown) && thrown.code === DUPLICATE_KEY;
}

/** Errors that `withTransaction` repeats. It must get them as the driver has thrown them. */
export function isTransient(thrown: unknown): boolean {
  return isDriverError(thrown) && thrown.hasErrorLabel?.("TransientTransactionError") === true;
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

function isAccessRefused({ code, message }: DriverError): boolean {
  return ACCESS_CODES.includes(code as number) || (code === ATLAS_CODE && ATLAS_ACCESS.test(message));
}

/**
 * This library's error for a driver's error. An error that is not known to be final may pass, or its outcome is
 * unknown: RELIABLE_UNAVAILABLE.
 */
export function mongoError(what: string, thrown: unknown): unknown {
  if (isSystemError(thrown)) return unavailable(what, thrown);
  if (!isDriverError(thrown)) return thrown;
  if (isAccessRefused(thrown)) {
    return new ReliableError(
      "RELIABLE_ACCESS_REFUSED",
      `MongoDB refused ${what}: ${reasonOf(thrown)}. Check user, password, authSource and roles (readWrite on the database).`,
      { store: "mongodb", step: what },
      thrown
    );
  }
  if (
    REFUSAL_CODES.includes(thrown.code as number) ||
    thrown.name.startsWith("BSON") ||
    thrown.name === "MongoInvalidArgumentError"
  ) {
    return new ReliableError(
      "RELIABLE_STORE_REFUSED",
      `MongoDB refused ${what}: ${reasonOf(thrown)}`,
      { store: "mongodb", step: what },
      thrown
    );
  }
  return unavailable(what, thrown);
}

/** Errors of an address or client options that can never work. */
export function isBadAddress(thrown: unknown): boolean {
  return (
    isDriverError(thrown) &&
    ["MongoParseError", "MongoInvalidArgumentError", "MongoMissingDependencyError"].includes(thrown.name)
  );
}
