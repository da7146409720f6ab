import { hasControl } from "../platform/printable";
import { MAX_CHECK_BYTES } from "./check";
import { describe, HEADER, isCount, MAX_HEADER_BYTES, WIRE_VERSION, type Wire } from "./envelope";
import { parseJson, Unreadable } from "./json";
import { MAX_INSTANT, type OwnPlan, type SharedPlan } from "./plan";

/** Many checks in one message: a line of JSON, then their bodies, one after the other, as they are. */
export const CHECKS_TYPE = "reliable.checks";

/** Checks in one message that are read. */
export const MAX_CHECKS_READ = 1000;

/** What is there once for all of a message's checks, as JSON: it is copied to each. */
const MAX_SHARED_BYTES = 8 * 1024;

const NEWLINE = 0x0a;
const MAX_NAME = 255;

/** A check on its way out. */
export interface OutgoingCheck {
  id: string;
  event: string;
  /** When it was emitted, ms. */
  at: number;
  body: Buffer;
  /** As of a check that is sent alone, but for its plan. */
  headers: Record<string, unknown>;
  plan: SharedPlan;
  own: OwnPlan | undefined;
}

/** What all have in common stands once, before the others. */
export function encodeChecks(checks: OutgoingCheck[]): Buffer {
  const [first] = checks as [OutgoingCheck];
  const { plan } = first;
  const shared = sharedHeaders(checks);
  const items = checks.map(check => ({
    id: check.id,
    type: check.event,
    at: check.at,
    headers: headersBeside(shared, check.headers),
    plan: check.plan.text === plan.text ? check.own : { ...planOf(check.plan), ...check.own },
    bytes: check.body.length
  }));
  const line = `{"v":${WIRE_VERSION},"plan":{"v":1,${plan.text}},"headers":${JSON.stringify(shared)},"items":${JSON.stringify(items)}}\n`;
  return Buffer.concat([Buffer.from(line), ...checks.map(({ body }) => body)]);
}

/** Whole: what it leaves out would be taken from the first check's. */
function planOf({ delays, max, backoff, unroutableMs }: SharedPlan): object {
  return { delays, max, backoff, unroutableMs };
}

function sharedHeaders([first, ...others]: OutgoingCheck[]): Record<string, unknown> {
  const { headers } = first as OutgoingCheck;
  const shared: Record<string, unknown> = {};
  for (const name in headers)
    if (others.every(other => other.headers[name] === headers[name])) shared[name] = headers[name];
  return JSON.stringify(shared).length <= MAX_SHARED_BYTES / 2 ? shared : {};
}

function headersBeside(
  shared: Record<string, unknown>,
  headers: Record<string, unknown>
): Record<string, unknown> | undefined {
  let own: Record<string, unknown> | undefined;
  for (const name in headers) if (!(name in shared)) (own ??= {})[name] = headers[name];
  return own;
}

/** One of many checks in a message. */
export interface CheckItem {
  /** In its message, from 1. */
  number: number;
  id: string;
  event: string;
  /** When it was emitted, ms. */
  at: number;
  round: number;
  /** Why it cannot be read; then the rest is only for people. */
  fault?: string;
  /** All that it says of itself but its plan: for people. */
  headers: Record<string, unknown>;
  body: Buffer;
  /** As it would have come alone. Throws Unreadable. */
  wire(): Wire;
}

interface Shared {
  plan: Record<string, unknown>;
  headers: Record<string, unknown>;
}

type Item = Record<string, unknown>;

/**
 * The checks of a message, readable or not: a bad one must not cost the others. What they say beyond `CheckItem` is not
 * looked at before it is needed, and it is needed for few. Throws Unreadable if it cannot be told what belongs to which.
 */
export function parseChecks({ messageId, headers, body }: Wire): CheckItem[] {
  if (headers[HEADER.version] !== WIRE_VERSION)
    throw new Unreadable(`checks with unknown x-reliable-version ${describe(headers[HEADER.version])}`);
  if (!messageId || hasControl(messageId)) throw new Unreadable("checks without a messageId");
  if (body.length > MAX_CHECK_BYTES)
    throw new Unreadable(`checks of ${body.length} bytes, more than ${MAX_CHECK_BYTES}`);
  const end = body.indexOf(NEWLINE);
  if (end < 0) throw new Unreadable("checks without a first line");
  const line = parseJson(body.subarray(0, end), "first line of checks", MAX_CHECK_BYTES);
  if (!isObject(line) || line.v !== WIRE_VERSION)
    throw new Unreadable(`unknown version ${describe(isObject(line) ? line.v : line)} of checks`);
  const { plan, headers: common = {}, items } = line;
  if (!isShared(plan) || !isShared(common)) throw new Unreadable("checks with bad plan or headers");
  if (!Array.isArray(items) || !items.length) throw new Unreadable("checks without items");
  if (items.length > MAX_CHECKS_READ)
    throw new Unreadable(`checks with ${items.length} items, more than ${MAX_CHECKS_READ}`);
  if (items.length !== headers[HEADER.count])
    throw new Unreadable(`${items.length} checks, ${describe(headers[HEADER.count])} by ${HEADER.count}`);
  const lengths = items.map((item: unknown) => (isObject(item) ? item.bytes : undefined));
  const bad = lengths.findIndex(bytes => bytes !== 0 && !isCount(bytes));
  if (bad >= 0) throw new Unreadable(`check ${bad + 1} of ${items.length} without its number of bytes`);
  const total = (lengths as number[]).reduce((sum, bytes) => sum + bytes, end + 1);
  if (total !== body.length)
    throw new Unreadable(`checks whose lengths do not add up: ${total} bytes, and there are ${body.length}`);
  let from = end + 1;
  return items.map((item: Item, i) => {
    const own = body.subarray(from, (from += item.bytes as number));
    return itemOf(item, i + 1, own, { plan, headers: common });
  });
}

function itemOf(item: Item, number: number, body: Buffer, shared: Shared): CheckItem {
  const { id, type, at, headers, plan } = item;
  const own = isObject(headers) ? headers : {};
  const round = HEADER.round in own ? own[HEADER.round] : shared.headers[HEADER.round];
  const fault = faultOf(item, round);
  return {
    number,
    id: typeof id === "string" ? id : "",
    event: typeof type === "string" ? type : "",
    at: at as number,
    round: round as number,
    ...(fault !== undefined && { fault }),
    headers: own,
    body,
    wire() {
      // AMQP limits both where a check comes alone.
      const echo = bounded({ ...shared.plan, ...(plan as object), at }, "plan");
      bounded(own, "headers");
      return {
        messageId: id as string,
        type: type as string,
        headers: { ...shared.headers, ...own, [HEADER.echo]: echo },
        body
      };
    }
  };
}

function faultOf({ id, type, at, headers, plan }: Item, round: unknown): string | undefined {
  if (!isName(id)) return "no id, one that is too long, or one with control characters";
  if (!isName(type)) return "no type (event name), one that is too long, or one with control characters";
  if (typeof at !== "number" || !(at > 0 && at < MAX_INSTANT)) return `bad at ${describe(at)}`;
  if (headers !== undefined && !isObject(headers)) return `bad headers ${describe(headers)}`;
  if (plan !== undefined && !isObject(plan)) return `bad plan ${describe(plan)}`;
  if (!isCount(round)) return "no x-reliable-round";
  return undefined;
}

function bounded(value: object, what: string): string {
  const text = jsonOf(value);
  if (text === undefined || text.length > MAX_HEADER_BYTES) throw new Unreadable(`check with ${what} too large`);
  return text;
}

function isShared(value: unknown): value is Record<string, unknown> {
  return isObject(value) && (jsonOf(value)?.length ?? Infinity) <= MAX_SHARED_BYTES;
}

/** undefined = it is nested deeper than the call stack. */
function jsonOf(value: object): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A short string of AMQP: what is longer could not be sent again. */
const isName = (value: unknown): value is string =>
  typeof value === "string" && value !== "" && Buffer.byteLength(value) <= MAX_NAME && !hasControl(value);
