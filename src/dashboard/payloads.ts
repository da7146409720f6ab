import { TIMED_OUT, withTimeout } from "../async/deadline";
import type { Warnings } from "../platform/warnings";
import { systemQueues } from "../wire/names";
import type { PayloadAnswer } from "./api";

/** What a payload belongs to. `event` is not known of what was parked. */
export interface PayloadOwner {
  id: string;
  event?: string;
}

/** Of the user's: what of a payload may be seen. It gets a copy of its own. */
export type Redact<Payload = unknown> = (payload: Payload, owner: PayloadOwner) => unknown;

export interface PayloadParts {
  hidePayloads: boolean;
  redact: Redact | undefined;
  warnings: Warnings;
  namespace: string;
}

const REDACT_MS = 5000;

const FAILED = "The payload is not shown: the option 'redact' has failed on it; the log of the server says how.";
const UNREADABLE =
  "The body is not shown: it is not the whole JSON of a payload, so the option 'redact' cannot tell what is in it.";

interface Seen {
  payload: unknown;
  withheld?: string;
}

/** Where it fails, its error is not told: there may be parts of the payload in its text. */
async function redacted({ redact, warnings }: PayloadParts, payload: unknown, owner: PayloadOwner): Promise<Seen> {
  if (!redact) return { payload };
  try {
    const seen = await withTimeout(Promise.resolve(redact(payload, owner)), REDACT_MS);
    if (seen === TIMED_OUT || seen === undefined) throw new TypeError("no answer, or none in time");
    return { payload: seen };
  } catch (error) {
    const name = error instanceof Error ? error.name : typeof error;
    const text = `Reliable: the dashboard's 'redact' has failed on the payload of '${owner.id}' (${name}); it is not shown.`;
    warnings.error("dashboard redact", name, text);
    return { payload: null, withheld: FAILED };
  }
}

type Row = Record<string, unknown>;

/** `get`, without the payload where it is hidden or not wanted. Meta goes with it: it is as personal. */
export async function storyOf(parts: PayloadParts, answer: Row, wanted: boolean): Promise<Row> {
  const { payload, meta, ...story } = answer;
  if (parts.hidePayloads) return story;
  if (!wanted) return { ...story, meta };
  return { ...story, meta, ...(await redactedOf(parts, answer)) };
}

export async function payloadOf(parts: PayloadParts, answer: Row): Promise<PayloadAnswer> {
  const { payloadDroppedAt, encoded, meta } = answer;
  return {
    ...(await redactedOf(parts, answer)),
    ...(parts.hidePayloads && { meta: meta as Row }),
    ...(payloadDroppedAt !== undefined && { payloadDroppedAt: payloadDroppedAt as string }),
    ...(encoded === true && { encoded })
  };
}

/** What was dropped needs no redaction. */
async function redactedOf(parts: PayloadParts, { payload, payloadDroppedAt, id, event }: Row): Promise<Seen> {
  if (payloadDroppedAt !== undefined) return { payload: null };
  return redacted(parts, payload, { id: String(id), event: String(event) });
}

/** A page of parked messages. The beginning of a body is no JSON, so it cannot be redacted. */
export function parkedPage({ hidePayloads, redact }: PayloadParts, page: Row): Row {
  if (!hidePayloads && !redact) return page;
  const { rows = [] } = page as { rows?: Row[] };
  return { ...page, rows: rows.map(({ body, encoding, ...row }) => row) };
}

/** One parked message, asked for. */
export async function parkedOne(parts: PayloadParts, whole: Row): Promise<Row> {
  if (!parts.redact) return whole;
  const { body, encoding, headers, ...rest } = whole;
  // In a receipt there may be a copy of a message, in base64.
  const isOurs = (Object.values(systemQueues(parts.namespace)) as unknown[]).includes(whole["queue"]);
  const payload = encoding === "utf8" && !isOurs ? jsonOf(String(body)) : undefined;
  if (payload === undefined) return { ...rest, withheld: UNREADABLE };
  const seen = await redacted(parts, payload, { id: String(whole["id"]) });
  if (seen.withheld !== undefined) return { ...rest, withheld: seen.withheld };
  return { ...rest, encoding, body: JSON.stringify(seen.payload) };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
