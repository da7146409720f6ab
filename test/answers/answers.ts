import type { Document } from "mongodb";
import type { Command, Play } from "../support/mongo-proxy";

export const COMMANDS = [
  "insert",
  "update",
  "delete",
  "find",
  "aggregate",
  "commitTransaction",
  "createIndexes"
] as const;

export type CommandName = (typeof COMMANDS)[number];

export interface Answer {
  name: string;
  play(command: Command): Play;
  /** Others cannot be answered like this. Default: all. */
  commands?: readonly CommandName[];
}

const WRITES: CommandName[] = ["insert", "update", "delete", "commitTransaction", "createIndexes"];
const TRANSIENT = "TransientTransactionError";
/** What mongod calls retryable; it says so itself, by a label, and the driver believes nothing else. */
const RETRYABLE = [10107, 11600, 11602, 189, 91, 262];

/** What mongod calls transient in a transaction, but for the commit. */
const CONFLICTS = [24, 112, 251];

/** As mongod answers: with the labels that it puts there. */
export function failure({ name, body }: Command, code: number, codeName: string, labels: string[] = []): Document {
  const inTransaction = body["autocommit"] === false;
  const retryable = RETRYABLE.includes(code) && body["txnNumber"] !== undefined;
  const own =
    retryable && (!inTransaction || name === "commitTransaction")
      ? ["RetryableWriteError"]
      : inTransaction && name !== "commitTransaction" && [...RETRYABLE, ...CONFLICTS].includes(code)
        ? [TRANSIENT]
        : [];
  const errorLabels = [...new Set([...labels, ...own])];
  return { ok: 0, code, codeName, errmsg: `injected: ${codeName}`, ...(errorLabels.length && { errorLabels }) };
}

function code(number: number, codeName: string, labels: string[] = []): Answer {
  const name = `${number} ${codeName}${labels.length ? " + label" : ""}`;
  return { name, play: command => ({ reply: failure(command, number, codeName, labels) }) };
}

function writeConcern(number: number, codeName: string): Answer {
  const writeConcernError = { code: number, codeName, errmsg: `injected: ${codeName}`, errInfo: { wtimeout: true } };
  return {
    name: `${number} ${codeName}, as writeConcernError`,
    commands: WRITES,
    play: () => ({ change: reply => ({ ...reply, writeConcernError }) })
  };
}

function atlas(name: string, errmsg: string): Answer {
  return { name, play: command => ({ reply: { ...failure(command, 8000, "AtlasError"), errmsg } }) };
}

/** Each record of an insert or update is refused; what has no records is refused as a whole. */
const tooLarge: Answer = {
  name: "17419 too large",
  play(command) {
    const records: unknown[] | undefined = command.body["documents"] ?? command.body["updates"];
    if (!records || command.body["autocommit"] === false) return { reply: failure(command, 17419, "Location17419") };
    const writeErrors = records.map((_, index) => ({ index, code: 17419, errmsg: "injected: too large" }));
    return { reply: { ok: 1, n: 0, nModified: 0, writeErrors } };
  }
};

/** Longer than the store waits for anything (20 s). */
const LATE_MS = 25_000;

export const LATE = "answered 25 s late";

export const ANSWERS: Answer[] = [
  code(10107, "NotWritablePrimary"),
  code(11600, "InterruptedAtShutdown"),
  code(11602, "InterruptedDueToReplStateChange"),
  code(189, "PrimarySteppedDown"),
  code(91, "ShutdownInProgress"),
  code(262, "ExceededTimeLimit"),
  code(50, "MaxTimeMSExpired"),
  code(112, "WriteConflict", [TRANSIENT]),
  code(251, "NoSuchTransaction", [TRANSIENT]),
  code(24, "LockTimeout"),
  writeConcern(64, "WriteConcernTimeout"),
  writeConcern(100, "UnsatisfiableWriteConcern"),
  atlas("8000 AtlasError, of the user's rights", "user is not allowed to do action [insert] on [shop.orders]"),
  atlas("8000 AtlasError, of a quota", "you are over your space quota, using 513 MB of 512 MB"),
  tooLarge,
  { name: "connection lost before it is done", play: () => ({ close: "before" }) },
  { name: "connection lost when it is done", play: () => ({ close: "after" }) },
  { name: LATE, play: () => ({ delayMs: LATE_MS }) }
];

export function mayAnswer({ commands }: Answer, command: CommandName): boolean {
  return !commands || commands.includes(command);
}
