import { redact } from "../errors";
import type { Failure, FailureError, GroupError } from "./message";

const MAX_ERROR_TEXT = 1000;

const MAX_STACK = 4000;

/** An error as it is sent and stored: every field limited in length, without credentials. Never throws. */
export function describeError(thrown: unknown): FailureError {
  const field = (name: string): unknown => {
    try {
      return (thrown as Record<string, unknown>)[name];
    } catch {
      // A getter may throw; the receipt must be sent all the same.
      return undefined;
    }
  };
  if (typeof thrown !== "object" || thrown === null)
    return { name: "Error", message: boundedText(thrown, MAX_ERROR_TEXT) };
  const result: FailureError = {
    name: boundedText(field("name") || "Error", 200),
    message: boundedText(field("message") ?? "", MAX_ERROR_TEXT)
  };
  const [code, type, stack, data] = [field("code"), field("type"), field("stack"), field("data")];
  if (typeof code === "number") result.code = code;
  if (typeof code === "string") result.code = boundedText(code, 200);
  if (typeof type === "string") result.type = boundedText(type, 200);
  if (typeof stack === "string") result.stack = boundedText(stack, MAX_STACK);
  // Names the field in the line that people read first.
  const fields =
    result.type === "VALIDATION_ERROR" && Array.isArray(data)
      ? data
          .slice(0, 3)
          .flatMap((entry: { message?: unknown } | null) => (typeof entry?.message === "string" ? entry.message : []))
      : [];
  if (fields.length) result.message = boundedText(`${result.message} ${fields.join(" ")}`, MAX_ERROR_TEXT);
  if (data !== undefined && data !== null)
    result.data = boundedText(typeof data === "string" ? data : json(data), MAX_ERROR_TEXT);
  return result;
}

/** In UTF-8. */
const MAX_NAME_BYTES = 50;
const MAX_MESSAGE_BYTES = 200;

/**
 * How a group has failed for good, short: all groups of a message may fail, and its row has a limit. The whole text is
 * in the failure and in the note.
 */
export function groupErrorOf({ cause, error: { name, message, code, type } }: Failure): GroupError {
  return {
    cause,
    name: cutBytes(name, MAX_NAME_BYTES),
    message: cutBytes(message, MAX_MESSAGE_BYTES),
    ...(code !== undefined && { code: typeof code === "string" ? cutBytes(code, MAX_NAME_BYTES) : code }),
    ...(type !== undefined && { type: cutBytes(type, MAX_NAME_BYTES) })
  };
}

export function cutBytes(text: string, max: number): string {
  if (Buffer.byteLength(text) <= max) return text;
  // The last character may have been cut in two.
  return Buffer.from(text)
    .subarray(0, max)
    .toString()
    .replace(/\uFFFD$/, "");
}

export function boundedText(value: unknown, max: number): string {
  try {
    // Cut first, so that no huge text is searched. The margin keeps an address that spans the cut whole, so that it can
    // be masked.
    return redact(String(value).slice(0, max + 1000)).slice(0, max);
  } catch {
    return "[not text]";
  }
}

export function json(value: unknown): string {
  try {
    return JSON.stringify(value) ?? "";
  } catch {
    return "[not JSON]";
  }
}
