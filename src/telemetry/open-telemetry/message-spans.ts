import type { Address, Courier, Delivery, PublishResult } from "../../couriers/courier";
import { reasonOf } from "../../errors";
import { describeError } from "../../message/failure-text";
import type { Message, Origin } from "../../message/message";
import type { Clock } from "../../platform/clock";
import { VERSION } from "../../platform/process-shared";
import type { Warnings } from "../../platform/warnings";
import type { Envelope } from "../../wire/envelope";
import type { Attributes, Carrier, Context, OpenTelemetryApi, Span, SpanOptions, Tracer } from "./api";
import { CONVENTIONS, MessagingAttributes, nameOf, type Operation } from "./attributes";
import { carrierOf, read, traceOf, write } from "./trace-context";

export interface MessageSpansParts {
  api: OpenTelemetryApi;
  courier: Courier;
  /** To which events go. */
  exchange: string;
  warnings: Warnings;
  clock: Clock;
}

/** A span that somebody has to end. */
export interface OpenSpan {
  /** Of what went well there is no error. The first end counts. */
  end(error?: unknown): void;
}

/** A publish. */
export interface SendSpan {
  end(result: PublishResult): void;
}

/** A handler at work. */
export interface ProcessSpan extends OpenSpan {
  /** What it begins is below this span. */
  run<Result>(work: () => Result): Result;
  /** From the end of the handler until the delivery is acked. */
  settle(): OpenSpan | undefined;
}

/** The span of an emit, which its first publish takes over. */
interface Begun {
  span: Span;
  taken: boolean;
}

/**
 * The spans of messages by the semantic conventions for messaging, through the user's own `@opentelemetry/api`:
 *
 *   create, send   an emit, and each publish. The context of the emit's span travels with its message, in the row too
 *   process        a handler, as a child of that context
 *   settle         a delivery's receipt and ack
 *
 * What the user's telemetry throws is told, and does not harm a message: no call of it is made outside of `#safely`.
 */
export class MessageSpans {
  readonly #tracer: Tracer | undefined;
  readonly #attributes: MessagingAttributes;
  /** By their messages, until their publish. */
  readonly #begun = new WeakMap<Message, Begun>();

  constructor(private readonly parts: MessageSpansParts) {
    const { api, courier, exchange, clock } = parts;
    this.#attributes = new MessagingAttributes(courier, exchange, clock);
    this.#tracer = this.#safely("tracer", () =>
      api.trace.getTracer("moleculer-reliable-emit", VERSION, { schemaUrl: CONVENTIONS })
    );
  }

  /**
   * Begins the span of an emit, below what is active, else below what came with its context; from now on the message
   * carries it. `atOnce`: one publish is a part of the emit, most likely, and its span is this one; else the message is
   * created now and sent by a span of its own.
   */
  emit(message: Message, atOnce: boolean): OpenSpan | undefined {
    const { api } = this.parts;
    const above = this.#above(message.origin);
    const to = this.#attributes.destinationOf(message);
    const attributes = this.#attributes.ofMessage(atOnce ? "send" : "create", message, to);
    const span = this.#start(api.SpanKind.PRODUCER, attributes, above);
    if (!span) return undefined;
    message.origin = this.#carrying(message.origin, span, above);
    const begun: Begun = { span, taken: false };
    if (atOnce) this.#begun.set(message, begun);
    return {
      end: error => {
        if (begun.taken) return;
        this.#begun.delete(message);
        // Nothing was sent in the course of it: the row was there, or RabbitMQ is away and a sweep will send it.
        if (atOnce && error === undefined) this.#become("create", span, message, to);
        this.#end(span, error);
      }
    };
  }

  /** Begins the span of a publish: that of its emit, if it is a part of it. `group`: undefined = all. */
  send(message: Message, to: Address, attempt: number, group: string | undefined): SendSpan | undefined {
    const begun = this.#begun.get(message);
    const span = begun ? begun.span : this.#startSend(message, to, attempt);
    if (!span) return undefined;
    if (begun) {
      this.#begun.delete(message);
      begun.taken = true;
      this.#become("send", span, message, to);
    }
    this.#set(span, {
      "reliable.attempt": attempt,
      ...(group !== undefined && { "reliable.group": group }),
      ...(message.strategy === "callback" && { "reliable.round": message.round ?? 1 })
    });
    return {
      end: ({ outcome, reason = outcome }) => {
        this.#set(span, { "reliable.outcome": outcome });
        if (outcome !== "confirmed") this.#fail(span, outcome, reason);
        this.#end(span);
      }
    };
  }

  /** Begins the span of a handler. */
  process(envelope: Envelope, delivery: Delivery, group: string): ProcessSpan | undefined {
    const { api } = this.parts;
    const above = this.#contextOf(envelope.origin) ?? api.ROOT_CONTEXT;
    const attributes = this.#attributes.ofDelivery("process", envelope, delivery, group);
    const span = this.#start(api.SpanKind.CONSUMER, attributes, above);
    if (!span) return undefined;
    const context = this.#safely("context", () => api.trace.setSpan(above, span)) ?? above;
    return {
      run: work => this.#run(context, work),
      ...this.#open(span),
      settle: () => this.#settle(envelope, delivery, group, context)
    };
  }

  /** Of a delivery that is answered without its handler: the group has handled it before. */
  settle(envelope: Envelope, delivery: Delivery, group: string): OpenSpan | undefined {
    return this.#settle(envelope, delivery, group, this.#contextOf(envelope.origin) ?? this.parts.api.ROOT_CONTEXT);
  }

  #settle(envelope: Envelope, delivery: Delivery, group: string, above: Context): OpenSpan | undefined {
    const attributes = this.#attributes.ofDelivery("settle", envelope, delivery, group);
    const span = this.#start(this.parts.api.SpanKind.CLIENT, attributes, above);
    return span && this.#open(span);
  }

  #open(span: Span): OpenSpan {
    let open = true;
    return {
      end: error => {
        if (open) this.#end(span, error);
        open = false;
      }
    };
  }

  /**
   * Linked to the span whose context the message carries. As far as its row tells nothing was sent of it before, so it
   * is below that span as well; a resend may come hours later, and begins a trace of its own.
   */
  #startSend(message: Message, to: Address, attempt: number): Span | undefined {
    const { api } = this.parts;
    const origin = this.#contextOf(message.origin);
    const first = attempt === 1 && !message.publishedAt && !Object.keys(message.attempts).length;
    const linked = origin && this.#safely("context", () => api.trace.getSpanContext(origin));
    const attributes = this.#attributes.ofMessage("send", message, to);
    const above = (first && origin) || api.ROOT_CONTEXT;
    return this.#start(api.SpanKind.CLIENT, attributes, above, linked && [{ context: linked }]);
  }

  #start(kind: number, attributes: Attributes, above: Context, links?: SpanOptions["links"]): Span | undefined {
    const options = { kind, attributes, ...(links && { links }) };
    return this.#safely("span", () => this.#tracer?.startSpan(nameOf(attributes), options, above));
  }

  #become(operation: Operation, span: Span, message: Message, to: Address): void {
    const attributes = this.#attributes.ofMessage(operation, message, to);
    this.#safely("span", () => span.updateName(nameOf(attributes)));
    this.#set(span, attributes);
  }

  #set(span: Span, attributes: Attributes): void {
    this.#safely("span", () => span.setAttributes(attributes));
  }

  #end(span: Span, error?: unknown): void {
    if (error !== undefined) {
      // Bounded, and without credentials.
      const { name, message, stack, type, code } = describeError(error);
      this.#safely("span", () => span.recordException({ name, message, ...(stack !== undefined && { stack }) }));
      this.#fail(span, type ?? (typeof code === "string" ? code : name), message);
    }
    this.#safely("span", () => span.end());
  }

  #fail(span: Span, type: string, message: string): void {
    this.#set(span, { "error.type": type });
    this.#safely("span", () => span.setStatus({ code: this.parts.api.SpanStatusCode.ERROR, message }));
  }

  /** The active context, if a span is active; else what came with the emit's own. */
  #above(origin: Origin): Context {
    const { api } = this.parts;
    const active = this.#safely("context", () => api.context.active());
    if (active && this.#safely("context", () => api.trace.getSpanContext(active))) return active;
    return this.#contextOf(origin) ?? active ?? api.ROOT_CONTEXT;
  }

  #contextOf(origin: Origin): Context | undefined {
    const carrier = carrierOf(origin);
    if (!carrier) return undefined;
    const { trace, propagation, ROOT_CONTEXT } = this.parts.api;
    const extracted = this.#safely("propagator", () => propagation.extract(ROOT_CONTEXT, carrier));
    if (extracted && this.#safely("context", () => trace.getSpanContext(extracted))) return extracted;
    const spanContext = read(carrier);
    return spanContext && this.#safely("context", () => trace.setSpanContext(ROOT_CONTEXT, spanContext));
  }

  /** The origin of the span's message, from now on. */
  #carrying(origin: Origin, span: Span, above: Context): Origin {
    const { trace, propagation, isSpanContextValid } = this.parts.api;
    const spanContext = this.#safely("context", () => span.spanContext());
    // There is no SDK in this process: what came with the emit goes on unchanged.
    if (!spanContext || !isSpanContextValid(spanContext)) return origin;
    const carrier: Carrier = {};
    this.#safely("propagator", () => propagation.inject(trace.setSpan(above, span), carrier));
    const { tracestate: _, ...rest } = origin;
    return { ...rest, ...(traceOf(carrier) ?? write(spanContext)) };
  }

  /** What the context manager throws must neither hide what the work has come to nor begin it twice. */
  #run<Result>(context: Context, work: () => Result): Result {
    let done: { result: Result } | undefined;
    let thrown: { error: unknown } | undefined;
    this.#safely("context manager", () =>
      this.parts.api.context.with(context, () => {
        try {
          done = { result: work() };
        } catch (error) {
          thrown = { error };
        }
      })
    );
    if (thrown) throw (thrown as { error: unknown }).error;
    return done ? (done as { result: Result }).result : work();
  }

  #safely<Result>(what: string, use: () => Result): Result | undefined {
    try {
      return use();
    } catch (error) {
      this.parts.warnings.warn(
        "OpenTelemetry",
        what,
        `Reliable: OpenTelemetry has failed (${what}: ${reasonOf(error)}); messages are not harmed, spans may be missing.`
      );
      return undefined;
    }
  }
}
