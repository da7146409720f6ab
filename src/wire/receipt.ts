import { ANY_GROUP, type FailureError, MAX_NODE_ID, MAX_PAYLOAD_BYTES } from "../message/message";
import { isOrderKey } from "../message/order";
import { isObjectKey } from "../message/pattern";
import { hasControl } from "../platform/printable";
import { describe, isCount, WIRE_VERSION } from "./envelope";
import { parseJson, Unreadable } from "./json";

export const RECEIPT_TYPE = "reliable.receipt";
/** The group's name in receipts of strategy `callback` that say: the business write of an intent has failed. */
export const WITHDRAWAL_TYPE = "reliable.withdrawal";

const EXCUSES = ["this", "all"] as const;
export type Excuse = (typeof EXCUSES)[number];

export interface ReceiptItem {
  id: string;
  outcome: "handled" | "failed";
  attempt: number;
  durationMs: number;
  /** How often the handler ran in this attempt, if more than once. */
  runs?: number;
  /** Only with `failed`: false = no further attempt can help. */
  retryable?: boolean;
  /** Only with `failed`: the handler was not reached (validation, a middleware). */
  rejected?: boolean;
  /**
   * Only with `failed`, of what may be tried again: it does not count, since what the handler depends on is away. `all`:
   * nor does what this message has failed in this group before it.
   */
  excused?: Excuse;
  error?: Partial<FailureError>;
  /** The envelope's `x-reliable-order-key`. */
  orderKey?: string;
  /** Only if the envelope asked for it. */
  echo?: Echo;
}

/**
 * What a receipt returns of a message whose producer keeps none: enough to know it, and after a failure to send it
 * again.
 */
export interface Echo {
  event: string;
  producer: string;
  /** The envelope's `x-reliable-echo`, unchanged. */
  plan: string;
  /** Only with `failed`: the envelope's headers and its body in base64. */
  headers?: Record<string, unknown>;
  body?: string;
}

export interface ReceiptMessage {
  v: number;
  group: string;
  nodeID: string;
  items: ReceiptItem[];
}

/**
 * `items`: the readable ones; `bad`: why the others cannot be read. One bad item must not cost the others their answer.
 */
export interface ReadReceipts extends ReceiptMessage {
  bad: string[];
}

/** Items in one message. The library's own code sends half as many. */
const MAX_ITEMS_READ = 1000;

/**
 * A failed receipt brings back one payload in base64, and beside it errors of 10 KiB at most, or MAX_ITEMS_READ items
 * without payloads.
 */
const MAX_RECEIPT_BYTES = Math.ceil((MAX_PAYLOAD_BYTES * 4) / 3) + 2 * 1024 * 1024;

/** Its plan travels in one header. */
const MAX_WITHDRAWAL_BYTES = 256 * 1024;

/** Bytes of a group's name: `<group>:<pattern>`, or `queue-confirm/` and a queue's name with its separators encoded. */
const MAX_GROUP_BYTES = 800;

/** Throws Unreadable if no item can be read. */
export function parseReceipts(body: Buffer): ReadReceipts {
  const value = parseJson(body, "receipt", MAX_RECEIPT_BYTES) as Partial<ReceiptMessage> | null;
  if (value?.v !== WIRE_VERSION) throw new Unreadable(`unknown receipt version ${describe(value?.v)}`);
  const { v, group, nodeID, items } = value;
  if (!isText(group) || !isText(nodeID)) throw new Unreadable("receipt without group or nodeID");
  if (!isName(group) || !isName(nodeID)) throw new Unreadable("receipt whose group or nodeID has control characters");
  // The name stands for groups that are not known yet. No group has it.
  if (group === ANY_GROUP || isObjectKey(group)) throw new Unreadable(`receipt of group '${group}', which is none`);
  if (Buffer.byteLength(group) > MAX_GROUP_BYTES)
    throw new Unreadable(`receipt of a group whose name is longer than ${MAX_GROUP_BYTES} bytes`);
  if (!Array.isArray(items) || !items.length) throw new Unreadable("receipt without items");
  if (items.length > MAX_ITEMS_READ)
    throw new Unreadable(`receipt with ${items.length} items, more than ${MAX_ITEMS_READ}`);
  const read: ReadReceipts = { v, group, nodeID: nodeID.slice(0, MAX_NODE_ID), items: [], bad: [] };
  items.forEach((item: unknown, i) => {
    const fault = faultOf(item);
    if (fault) read.bad.push(`receipt item ${i}: ${fault}`);
    else read.items.push(item as ReceiptItem);
  });
  return read;
}

const isText = (value: unknown): value is string => typeof value === "string" && value !== "";
/** An id, or a name of an event, a group, a node or a service. */
const isName = (value: unknown): value is string => isText(value) && !hasControl(value);
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isFlag = (value: unknown) => value === undefined || typeof value === "boolean";
const isOptionalText = (value: unknown) => value === undefined || typeof value === "string";

/** undefined = it matches `docs/schemas/receipt.schema.json`. */
function faultOf(item: unknown): string | undefined {
  if (!isObject(item)) return "not an object";
  const { id, outcome, attempt, durationMs, runs, retryable, rejected, excused, error, orderKey, echo } = item;
  if (!isText(id)) return "no id";
  if (!isName(id)) return "an id with control characters";
  if (outcome !== "handled" && outcome !== "failed") return `bad outcome ${describe(outcome)}`;
  if (!isCount(attempt)) return `bad attempt ${describe(attempt)}`;
  if (!Number.isFinite(durationMs) || (durationMs as number) < 0) return `bad durationMs ${describe(durationMs)}`;
  if (runs !== undefined && !isCount(runs)) return `bad runs ${describe(runs)}`;
  if (!isFlag(retryable)) return `bad retryable ${describe(retryable)}`;
  if (!isFlag(rejected)) return `bad rejected ${describe(rejected)}`;
  if (excused !== undefined && !EXCUSES.includes(excused as Excuse)) return `bad excused ${describe(excused)}`;
  if (error !== undefined && !isError(error)) return "bad error";
  if (orderKey !== undefined && !isOrderKey(orderKey)) return `bad orderKey ${describe(orderKey)}`;
  if (echo === undefined) return undefined;
  if (!isEcho(echo)) return "bad echo";
  // The next attempt may be due before the check comes, and there is no other copy.
  return outcome === "failed" && !echo.body
    ? "bad echo: with outcome 'failed' it must bring back headers and body"
    : undefined;
}

function isError(error: unknown): boolean {
  if (!isObject(error)) return false;
  const { code, ...texts } = error;
  return (
    (code === undefined || typeof code === "string" || typeof code === "number") &&
    ["name", "message", "type", "stack", "data"].every(field => isOptionalText(texts[field]))
  );
}

/**
 * Node.js decodes any text as base64 and skips other characters. A regular expression for groups of four overflows the
 * stack at some MiB.
 */
const isBase64 = (text: string) => text.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(text);

function isEcho(echo: unknown): echo is Echo {
  if (!isObject(echo) || !isName(echo.event) || !isName(echo.producer) || !isText(echo.plan)) return false;
  return echo.headers === undefined
    ? echo.body === undefined
    : isObject(echo.headers) && isText(echo.body) && isBase64(echo.body);
}

export interface Withdrawal {
  v: number;
  id: string;
  echo: Echo;
}

/** Throws Unreadable. */
export function parseWithdrawal(body: Buffer): Withdrawal {
  const value = parseJson(body, "withdrawal", MAX_WITHDRAWAL_BYTES) as Partial<Withdrawal> | null;
  if (value?.v !== WIRE_VERSION || !isName(value.id) || !isEcho(value.echo))
    throw new Unreadable("withdrawal without version, id or echo");
  return value as Withdrawal;
}
