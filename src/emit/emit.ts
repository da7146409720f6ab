import { HandlerTransaction } from "../async/handler-transaction";
import { ReliableError } from "../errors";
import { ANY_GROUP, type Message } from "../message/message";
import type { ServiceOptions } from "../options/options";
import { encodeBody } from "../outbound/encoding";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock } from "../platform/clock";
import { newId } from "../platform/ids";
import type { Warnings } from "../platform/warnings";
import type { Store } from "../stores/store";
import type { Load } from "../telemetry/load";
import type { Metrics } from "../telemetry/metrics";
import type { MessageSpans, OpenSpan } from "../telemetry/open-telemetry/message-spans";
import type { Admission } from "./admission";
import { type Call, CallOrder } from "./call-order";
import { type EmitItem, type EmitOptions, isLater, sendAtOf } from "./emit-options";
import { businessWrite } from "./intent";
import { emitMany, type Joined, type ManyParts } from "./many";
import { type EmitSource, newMessage } from "./new-message";
import { leftOf } from "./published";
import { schemaOf, validated } from "./schemas";
import type { EmitConditions, EmitResult, Strategy } from "./strategy";

export interface EmitterParts {
  nodeID: string;
  callback: Strategy;
  /** Options that need a store. */
  outbox: Strategy | undefined;
  store: Store | undefined;
  subscriptions: Subscriptions | undefined;
  metrics: Metrics;
  warnings: Warnings;
  clock: Clock;
  emitTimeoutMs: number;
  admission: Admission;
  load: Load;
  /** Undefined = no OpenTelemetry. */
  spans?: MessageSpans | undefined;
}

/** `reliableEmit`: checks its arguments, then lets the strategy keep the message. */
export class Emitter {
  readonly #calls = new CallOrder();

  constructor(private readonly parts: EmitterParts) {}

  /** See EmitOptions. Throws RELIABLE_NO_STORE, and what the admission, `newMessage` and the strategies throw. */
  emit(source: EmitSource, event: string, raw: unknown, options: EmitOptions): Promise<EmitResult> {
    const run = this.#runOf(source, options);
    const key: unknown = options?.orderKey;
    const call = typeof key === "string" ? this.#calls.enter(key) : undefined;
    const emitting = this.#emit(source, event, raw, options, run, call);
    const emitted = call ? emitting.finally(call.leave) : emitting;
    // All of it: a handler that does not await it must not be committed before.
    return run ? run.join(emitted) : emitted;
  }

  async #emit(
    source: EmitSource,
    event: string,
    raw: unknown,
    options: EmitOptions,
    run: HandlerTransaction | undefined,
    call: Call | undefined
  ): Promise<EmitResult> {
    const { callback, metrics, clock, warnings, emitTimeoutMs, admission } = this.parts;
    const started = clock.monotonic();
    const { store } = this.parts;
    const sendAt = isLater(options) ? sendAtOf(options, store?.now() ?? this.now()) : undefined;
    // A store alone can keep it until then.
    const given = run || sendAt ? { ...options, strategy: "outbox" as const } : options;
    const strategy = (given?.strategy ?? source.options.strategy) === "callback" ? callback : this.#outbox();
    // A refusal must cost little: nothing of the emit is looked at before it.
    const free = Boolean(run || given?.session || source.inHandler);
    const waits = admission.ask(event, strategy, { free, timeoutMs: given?.timeoutMs });
    const checked = this.#checked(source, event, raw, given);
    const payload = checked ? (await checked).value : raw;
    const message = newMessage(source, event, payload, given, this, sendAt);
    const { commit, session = run?.session, waitFor = "stored", timeoutMs = emitTimeoutMs } = given;
    const write = commit && businessWrite(message, payload, commit, { intents: () => this.#store().intents, warnings });
    const conditions = { write, session, joined: Boolean(run), waitFor, timeoutMs };
    if (waits) {
      await admission.turn(event, message.body.length, timeoutMs);
      conditions.timeoutMs = leftOf(started + timeoutMs, clock);
    }
    const end = free || !admission.on ? undefined : this.#letIn(strategy, message, source.options, conditions);
    const span = this.parts.spans?.emit(message, isSentAtOnce(message, strategy === callback, conditions));
    const { encode, decode } = source.options;
    const emitting =
      encode || decode
        ? this.#emitEncoded(inOrder(strategy, call), message, source.options, conditions)
        : inOrder(strategy, call).emit(message, conditions);
    const emitted = span ? spanned(emitting, span) : emitting;
    if (end && !waits) this.parts.load.cost(clock.monotonic() - started);
    try {
      const result = await emitted;
      if (!free) admission.stored();
      metrics.emitted(event);
      metrics.time("emit.time", clock.monotonic() - started, event);
      return result;
    } finally {
      end?.();
    }
  }

  /** See `emitMany`. `emit`: one of them, as its service does it. */
  async many(source: EmitSource, items: EmitItem[], options: EmitOptions, emit: ManyParts["emit"]) {
    const joined = this.#joined(source, options);
    const check: ManyParts["check"] = async (event, payload, own) => {
      const strategy = own.strategy ?? (own.session ? source.options.strategy : undefined);
      if (own.commit || strategy === "callback" || (own.waitFor ?? "stored") !== "stored") throw outside(event);
      const checked = await this.#checked(source, event, payload, own);
      newMessage(source, event, checked ? checked.value : payload, own, this);
    };
    const emitted = emitMany(items, options, { check, emit, joined });
    return joined?.join?.(emitted) ?? emitted;
  }

  /** What the service's schema makes of the payload. Undefined = it has none, and nothing is waited for. */
  #checked(
    source: EmitSource,
    event: string,
    payload: unknown,
    options: EmitOptions | undefined
  ): Promise<{ value: unknown }> | undefined {
    const schema = schemaOf(source.options.schemas, event);
    if (!schema) return undefined;
    const { emitTimeoutMs, clock } = this.parts;
    const timeoutMs = typeof options?.timeoutMs === "number" ? options.timeoutMs : emitTimeoutMs;
    return validated(event, payload, schema, { timeoutMs, clock });
  }

  #joined(source: EmitSource, options: EmitOptions): Joined | undefined {
    if (options?.session) return { fail: aborting(options.session) };
    // Their own options decide whether they can join it; see `check`.
    const run = this.#runOf(source, { ...(options?.session === null && { session: null }) });
    return run && { fail: error => run.fail(error), join: work => run.join(work) };
  }

  /** Some are timed: until their promise holds, and until a handler of this node has them. */
  #letIn(
    strategy: Strategy,
    message: Message,
    { encode }: ServiceOptions,
    { write, waitFor }: EmitConditions
  ): (() => void) | undefined {
    const { load, callback, clock } = this.parts;
    if (!load.chosen() || write || encode || waitFor !== "stored" || message.sendAt) return undefined;
    const at = clock.monotonic();
    if (!message.groups) load.sent(message._id, message.event, at);
    const line = strategy === callback ? load.broker : load.store;
    const probe = load.begin(line, at);
    return () => line.end(probe, clock.monotonic());
  }

  /** `decode` alone: the id may be that of an emit before the service has lost its `encode`. */
  async #emitEncoded(
    strategy: Pick<Strategy, "emit">,
    message: Message,
    { encode, decode, maxPayloadBytes }: ServiceOptions,
    conditions: EmitConditions
  ): Promise<EmitResult> {
    const { clock } = this.parts;
    const { _id: id, event, body } = message;
    const until = clock.monotonic() + conditions.timeoutMs;
    if (encode) {
      const limits = { maxPayloadBytes, timeoutMs: conditions.timeoutMs, clock };
      message.body = await encodeBody(encode, body, { id, event }, limits);
      message.encoded = true;
    }
    return strategy.emit(message, { ...conditions, plain: { body, decode }, timeoutMs: leftOf(until, clock) });
  }

  /**
   * The handler's transaction, which an emit joins that could be in one. What cannot be stays outside, as it says itself:
   * with a session of its own or none (null), an intent, a wait for what comes after the commit, strategy `callback`.
   */
  #runOf({ session }: EmitSource, options: EmitOptions): HandlerTransaction | undefined {
    const { store } = this.parts;
    if (!store || typeof options !== "object" || options === null) return undefined;
    const { session: given, commit, waitFor = "stored", strategy } = options;
    if (given !== undefined || commit || waitFor !== "stored" || strategy === "callback") return undefined;
    return HandlerTransaction.of(store.inbox, session);
  }

  id(): string {
    return newId();
  }

  now(): Date {
    return new Date(this.parts.clock.now());
  }

  waitingFor(event: string, groups?: string[]): string[] {
    return this.parts.subscriptions?.waitingFor(event, groups) ?? groups ?? [ANY_GROUP];
  }

  #outbox(): Strategy {
    return this.parts.outbox ?? this.#refuse();
  }

  #store(): Store {
    return this.parts.store ?? this.#refuse();
  }

  #refuse(): never {
    throw noStore(this.parts.nodeID);
  }
}

/** After those with the same order key that were called before. */
function inOrder(strategy: Pick<Strategy, "emit">, call: Call | undefined): Pick<Strategy, "emit"> {
  if (!call) return strategy;
  const { before, leave } = call;
  return {
    emit(message, conditions) {
      const emit = () => {
        const emitted = strategy.emit(message, conditions);
        leave();
        return emitted;
      };
      return before ? before.then(emit) : emit();
    }
  };
}

/**
 * The transaction that is open now. Another one that the session has begun since, as `withTransaction` does after a
 * conflict, is not touched; nor is what is no session: its emits have said so.
 */
function aborting(session: unknown): () => Promise<void> {
  const theirs = session as {
    transaction?: unknown;
    inTransaction?(): boolean;
    abortTransaction?(): Promise<unknown>;
  };
  const mine = theirs.transaction;
  return async () => {
    if (theirs.transaction !== mine || !theirs.inTransaction?.()) return;
    const abort = theirs.abortTransaction?.bind(theirs);
    await abort?.().catch(() => undefined);
    // `withTransaction` of driver 7 aborts it again, and would reject with what that says in place of the error.
    theirs.abortTransaction = async () => (theirs.transaction === mine ? undefined : abort?.());
  };
}

/** One publish follows, to all its groups or to the only one, before the emit resolves or right after it. */
function isSentAtOnce({ groups, waiting, sendAt }: Message, isCallback: boolean, { write, session }: EmitConditions) {
  return !write && !session && !sendAt && (isCallback || groups === undefined || waiting.length === 1);
}

async function spanned(emitting: Promise<EmitResult>, span: OpenSpan): Promise<EmitResult> {
  try {
    const result = await emitting;
    span.end();
    return result;
  } catch (error) {
    span.end(error);
    throw error;
  }
}

function outside(event: string): ReliableError {
  return new ReliableError(
    "RELIABLE_BAD_OPTION",
    `Of several emits in one transaction '${event}' cannot be in it: not with 'commit', 'waitFor' or strategy 'callback'.`,
    { option: "items", event }
  );
}

export function noStore(nodeID: string): ReliableError {
  return new ReliableError("RELIABLE_NO_STORE", `Node '${nodeID}' has no store: give the option 'mongo' (or 'path').`, {
    option: "mongo",
    nodeID
  });
}

/** `stopped`: it does not run any more; else not yet. */
export function notRunning(stopped: boolean, event?: string): ReliableError {
  const what = event ? `Cannot emit '${event}' reliably` : "Not possible";
  return stopped
    ? new ReliableError("RELIABLE_STOPPED", `${what}: the node has stopped. Nothing was stored.`, { event })
    : new ReliableError(
        "RELIABLE_NOT_STARTED",
        `${what}: the service has not started yet; \`started()\` is the earliest place. Nothing was stored.`,
        { event }
      );
}
