import { ReliableError } from "../errors";
import type { Backoff } from "../message/message";
import { isOrderKey, ON_DEAD } from "../message/order";
import { isObjectKey } from "../message/pattern";
import type { ReliableEvent, ReliablePayload } from "../options/event-types";
import { msRule } from "../options/option";
import { check } from "../options/validate";
import { hasControl } from "../platform/printable";
import { checkId } from "../wire/envelope";
import { stringify } from "../wire/json";
import type { MessageKeys } from "./keys";

/** Options of one `reliableEmit`. All optional. */
export interface EmitOptions {
  /** The context the event comes from. Its requestID, tracing, meta, level and caller are passed on. */
  ctx?: unknown;
  /** The same under Moleculer's own name. */
  parentCtx?: unknown;
  /** Merged over the context's meta. */
  meta?: Record<string, unknown>;
  /** `ctx.headers` in the handlers (Moleculer 0.15). */
  headers?: Record<string, unknown>;
  /** Only these groups receive it and owe a receipt. @default every subscribed group */
  groups?: string | string[];
  /** @default the service's */
  strategy?: "outbox" | "callback";
  /**
   * By these operators find the message: `reliable list --key order=42`. At most 5; a name has up to 30 characters, a
   * value is text of up to 100 or a number. They are no secrets: they stand in clear in the store, and with `callback`
   * in RabbitMQ.
   */
  keys?: MessageKeys;
  /** Makes a repeated emit idempotent: the same id with the same event and payload is stored once. @default a UUIDv7 */
  id?: string;
  /**
   * MongoDB ClientSession of the store's client. The message joins its transaction and is published after the commit.
   * `null`: none, not even that of the handler.
   * @default in a handler with `inbox: "transaction"` the handler's
   */
  session?: unknown;
  /**
   * The business write. It runs between a durable intent and the message. If it throws, nothing is sent and its error
   * reaches the caller. If the process dies, `source` or the barrier row says later whether the write happened. Needs
   * `source` or `barrier`.
   */
  commit?: (message: CommitMessage) => unknown;
  /**
   * An action that returns the payload for `params`, null for "there is none", or "unknown" for "cannot say yet"; one
   * that the service's option `sources` lists. With it, checks of strategy `callback` carry no payload.
   */
  source?: { action: string; params?: unknown };
  /**
   * `commit` writes the barrier row (`message.barrier(session)`), which alone proves the business write: no `source` is
   * needed.
   * @default false
   */
  barrier?: boolean;
  /**
   * Stored now, sent then; at the latest `sweepEveryMs` + 1 s after it. An instant in the past: sent at once. Until it is
   * sent `reliableCancel(id)` takes it back. Needs a store on this node, whatever the strategy; the groups are those that
   * are known when it is sent. Not with `commit`, and `waitFor` is "stored".
   */
  sendAt?: Date;
  /** The same, in ms from now, by the store's clock. @default 0 */
  delayMs?: number;
  /**
   * Messages with one key reach each group in the order of their emits, one at a time: of one process in the order of the
   * calls; of several as they were stored, so what was stored before another was emitted comes first; in a `session` in
   * the order of the commits, with `commit` when its write has happened, with `sendAt` when it is sent. 1 to 200 bytes. It
   * needs a store on this node, and strategy `outbox`.
   */
  orderKey?: string;
  /**
   * What becomes of the key when this message has failed for good in a group: "hold": those behind it wait until a human
   * acts; "skip": they go on. Only with `orderKey`. @default "hold"
   */
  onDead?: "hold" | "skip";
  /** @default the service's */
  maxAttempts?: number;
  /** @default the service's */
  backoff?: Partial<Backoff>;
  /** How long it costs no attempt that no group is known. @default the service's */
  unroutableMs?: number;
  /**
   * Limit in ms for storing, and for what `waitFor` waits for. It may be noticed up to 100 ms late.
   * @default emitTimeoutMs
   */
  timeoutMs?: number;
  /** What to wait for before the emit resolves; with a session only "stored". @default "stored" */
  waitFor?: "stored" | "confirmed" | "consumed";
}

/** One of several emits: options of its own come before those that were given for all. */
export type EmitItem = {
  [Event in ReliableEvent]: Omit<EmitOptions, "session"> & { event: Event; payload: ReliablePayload<Event> };
}[ReliableEvent];

/** The argument of `commit`. */
export interface CommitMessage {
  id: string;
  event: string;
  payload: unknown;
  /**
   * Writes the barrier row in the business transaction, whose session must belong to the store's MongoClient. Rejects
   * with RELIABLE_WITHDRAWN when the intent was withdrawn in the meantime: let the transaction abort.
   */
  barrier(session: unknown): Promise<void>;
}

/** As far as dates are written with four digits of a year. */
const LATEST = new Date("9999-12-31T23:59:59.999Z");

/** The source travels as a header of the message and of its check. */
const MAX_SOURCE_BYTES = 4096;

const any = { type: "any" };

const object = { type: "object" };

const EMIT_RULES = {
  ctx: any,
  parentCtx: any,
  meta: object,
  headers: object,
  groups: {
    type: "multi",
    rules: [
      { type: "string", empty: false },
      { type: "array", items: { type: "string", empty: false }, min: 1 }
    ]
  },
  strategy: { type: "enum", values: ["outbox", "callback"] },
  commit: { type: "function" },
  source: {
    type: "object",
    strict: true,
    properties: { action: { type: "string", empty: false, max: 255 }, params: { type: "any", optional: true } }
  },
  barrier: { type: "boolean" },
  id: any,
  session: any,
  maxAttempts: { type: "number", integer: true, min: 1, max: 100 },
  backoff: {
    type: "object",
    strict: true,
    properties: {
      initialMs: { ...msRule(), optional: true },
      maxMs: { ...msRule(), optional: true },
      jitter: { type: "enum", values: ["none", "half", "full"], optional: true }
    }
  },
  unroutableMs: msRule({ min: 0 }),
  delayMs: { type: "number", integer: true, min: 0, max: LATEST.getTime() },
  onDead: { type: "enum", values: [...ON_DEAD] },
  timeoutMs: { type: "number", integer: true, min: 1, max: 24 * 3_600_000 },
  waitFor: { type: "enum", values: ["stored", "confirmed", "consumed"] }
};

export function checkEmitOptions(event: string, options: EmitOptions): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new ReliableError("RELIABLE_BAD_OPTION", `The options of reliableEmit('${event}') must be an object.`, {
      event
    });
  }
  if (Object.keys(options).length === 0) return;
  const { ctx, parentCtx, session, meta, headers, id, sendAt, orderKey, keys: _checkedApart, ...rest } = options;
  check(`reliableEmit('${event}')`, EMIT_RULES, rest);
  const objects = { meta, headers, ctx, parentCtx, session: session ?? undefined };
  for (const [name, value] of Object.entries(objects)) {
    if (value !== undefined && (typeof value !== "object" || value === null || Array.isArray(value)))
      throw new ReliableError("RELIABLE_BAD_OPTION", `The emit option '${name}' of '${event}' must be an object.`, {
        option: name,
        event
      });
  }
  if (id !== undefined) checkId(id);
  if (sendAt !== undefined || rest.delayMs !== undefined) checkLater(event, options);
  if (orderKey !== undefined || rest.onDead !== undefined) checkOrder(event, options);
  // They travel as one text, with commas between them.
  if ([rest.groups ?? []].flat().some(group => hasControl(group) || group.includes(",") || isObjectKey(group)))
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The emit option 'groups' of '${event}' has a name that no group can have: with a comma or control characters, or one that every object has ('constructor'); several groups are a list.`,
      { option: "groups", event }
    );
  if (session && rest.waitFor !== undefined && rest.waitFor !== "stored") {
    // Nothing is published before the commit, and the commit would wait for this emit.
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The emit option 'waitFor' of '${event}' cannot be '${rest.waitFor}' with a session: the message goes out after the commit.`,
      { option: "waitFor", event }
    );
  }
  if (rest.commit && !rest.source && !rest.barrier)
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The emit option 'commit' of '${event}' needs 'source', or 'barrier: true': otherwise it could not be known after a crash whether it happened.`,
      { option: "commit", event }
    );
  if (rest.commit && session)
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The emit options 'commit' and 'session' of '${event}' exclude each other: with 'session' the message is stored in the transaction itself.`,
      { option: "commit", event }
    );
  if (rest.barrier && !rest.commit)
    throw new ReliableError("RELIABLE_BAD_OPTION", `The emit option 'barrier' of '${event}' belongs to 'commit'.`, {
      option: "barrier",
      event
    });
}

function checkLater(event: string, { sendAt, delayMs, commit, waitFor = "stored" }: EmitOptions): void {
  const option = sendAt === undefined ? "delayMs" : "sendAt";
  const refuse = (why: string) => refuseOption(event, option, why);
  if (sendAt !== undefined && delayMs !== undefined) refuse("says the same as 'delayMs': give one of them");
  // An invalid Date is not before anything either.
  if (sendAt !== undefined && !(sendAt instanceof Date && sendAt <= LATEST))
    refuse(`must be a Date, not later than ${LATEST.toISOString()}`);
  if (commit) refuse("cannot be given with 'commit': emit in the transaction ('session'), or after the write");
  if (waitFor !== "stored") refuse(`cannot be given with 'waitFor: "${waitFor}"': it is not sent before that instant`);
}

function refuseOption(event: string, option: string, why: string): never {
  throw new ReliableError("RELIABLE_BAD_OPTION", `The emit option '${option}' of '${event}' ${why}.`, {
    option,
    event
  });
}

function checkOrder(event: string, { orderKey, onDead }: EmitOptions): void {
  if (orderKey === undefined)
    refuseOption(event, "onDead", `says what becomes of an order key ('${onDead}'): give 'orderKey' too`);
  if (!isOrderKey(orderKey))
    refuseOption(
      event,
      "orderKey",
      "must be text of 1 to 200 bytes without control characters, not blank and not '__proto__'"
    );
}

/** Of options that are checked later. */
export function isLater(options: EmitOptions | undefined): boolean {
  return options?.sendAt !== undefined || options?.delayMs !== undefined;
}

/** When it is to be sent, if that is not now. Likewise. */
export function sendAtOf(options: EmitOptions | undefined, now: Date): Date | undefined {
  const { sendAt, delayMs } = options ?? {};
  if (sendAt instanceof Date) return sendAt > now ? sendAt : undefined;
  return typeof delayMs === "number" && delayMs > 0 ? new Date(now.getTime() + delayMs) : undefined;
}

/** `sources`: those of the service. The params of a source travel and are stored as JSON. */
export function checkSource(
  event: string,
  { action, params }: NonNullable<EmitOptions["source"]>,
  sources: string[]
): void {
  if (!sources.includes(action))
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The emit option 'source' of '${event}' names '${action}', which is not in the service's option 'sources'; list it there, so that nothing else can be called.`,
      { option: "source", event, action }
    );
  const fail = (where: string) =>
    new ReliableError("RELIABLE_BAD_OPTION", `The emit option 'source' of '${event}': ${where}.`, {
      option: "source",
      event
    });
  if (stringify(params ?? {}, fail, "source.params").length > MAX_SOURCE_BYTES)
    throw fail(`source.params may have ${MAX_SOURCE_BYTES} characters as JSON`);
}
