import { TIMED_OUT, withTimeout } from "../async/deadline";
import { ReliableError, ReliableRetryableError, reasonOf } from "../errors";
import { boundedText } from "../message/failure-text";
import type { Issue, Result, Schemas, StandardSchema } from "../options/schemas";
import type { Clock } from "../platform/clock";

/** In an error: the others are counted. */
const ISSUES_TOLD = 5;
const ISSUE_CHARS = 200;

/** The schema of the event, if it has one. */
export function schemaOf(schemas: Schemas, event: unknown): StandardSchema | undefined {
  return typeof event === "string" && Object.hasOwn(schemas, event) ? (schemas[event] as StandardSchema) : undefined;
}

/**
 * What the schema makes of a payload. Rejects with RELIABLE_BAD_PAYLOAD and the issues; with RELIABLE_NOT_STORED where it
 * does not answer within `timeoutMs`.
 */
export async function validated(
  event: string,
  payload: unknown,
  schema: StandardSchema,
  { timeoutMs, clock }: { timeoutMs: number; clock: Clock }
): Promise<{ value: unknown }> {
  let answer: Result<unknown> | typeof TIMED_OUT;
  try {
    const result = schema["~standard"].validate(payload);
    answer = result instanceof Promise ? await withTimeout(result, timeoutMs, clock) : result;
  } catch (thrown) {
    throw thrownBy(event, thrown);
  }
  if (answer === TIMED_OUT)
    throw new ReliableRetryableError(
      "RELIABLE_NOT_STORED",
      `The schema of '${event}' did not answer within ${timeoutMs} ms; nothing was stored.`,
      { event, timeoutMs }
    );
  // A payload that is a promise is refused as any other that JSON cannot carry: it is not awaited here.
  return { value: outputOf(event, answer) };
}

function thrownBy(event: string, thrown: unknown): ReliableError {
  const text = `Cannot emit '${event}' reliably: its schema has thrown: ${boundedText(reasonOf(thrown), ISSUE_CHARS)}.`;
  return new ReliableError("RELIABLE_BAD_PAYLOAD", text, { event }, thrown);
}

function outputOf(event: string, result: Result<unknown>): unknown {
  const { issues } = result;
  if (!issues) return result.value;
  const told = issues.slice(0, ISSUES_TOLD).map(issue => ({
    path: pathOf(issue),
    message: boundedText(issue.message, ISSUE_CHARS)
  }));
  const more = issues.length > told.length ? `; and ${issues.length - told.length} more` : "";
  const text = told.map(({ path, message }) => `${path}: ${message}`).join("; ");
  throw new ReliableError("RELIABLE_BAD_PAYLOAD", `Cannot emit '${event}' reliably: ${text}${more}.`, {
    event,
    issues: told
  });
}

function pathOf({ path = [] }: Issue): string {
  const keys = path.map(part => String(typeof part === "object" ? part.key : part));
  return boundedText(["payload", ...keys].join("."), ISSUE_CHARS);
}
