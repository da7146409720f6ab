import { ReliableError } from "../../errors";

/**
 * What is used of `@opentelemetry/api`, from 1.3 on. Written down here, so that neither the code nor its declarations
 * need the package where the option is off.
 */
export interface OpenTelemetryApi {
  readonly ROOT_CONTEXT: Context;
  readonly SpanKind: { readonly PRODUCER: number; readonly CONSUMER: number; readonly CLIENT: number };
  readonly SpanStatusCode: { readonly ERROR: number };
  readonly context: {
    active(): Context;
    with<Result>(context: Context, work: () => Result): Result;
  };
  readonly propagation: {
    inject(context: Context, carrier: Carrier): void;
    extract(context: Context, carrier: Carrier): Context;
  };
  readonly trace: {
    getTracer(name: string, version: string, options: { schemaUrl: string }): Tracer;
    getSpanContext(context: Context): SpanContext | undefined;
    setSpan(context: Context, span: Span): Context;
    setSpanContext(context: Context, spanContext: SpanContext): Context;
  };
  isSpanContextValid(spanContext: SpanContext): boolean;
}

/** Theirs cannot be changed: what is set makes a new one. */
export interface Context {
  getValue(key: symbol): unknown;
  setValue(key: symbol, value: unknown): Context;
  deleteValue(key: symbol): Context;
}

/** What travels: by the names of W3C Trace Context. */
export type Carrier = Record<string, string>;

export interface SpanContext {
  traceId: string;
  spanId: string;
  traceFlags: number;
  isRemote?: boolean;
}

export type Attributes = Record<string, string | number | boolean>;

export interface Span {
  spanContext(): SpanContext;
  setAttributes(attributes: Attributes): unknown;
  setStatus(status: { code: number; message?: string }): unknown;
  updateName(name: string): unknown;
  recordException(exception: { name: string; message: string; stack?: string }): void;
  end(): void;
}

export interface SpanOptions {
  kind: number;
  attributes: Attributes;
  links?: { context: SpanContext }[];
}

export interface Tracer {
  startSpan(name: string, options: SpanOptions, context: Context): Span;
}

const PACKAGE = "@opentelemetry/api";

/** Not an import: it is needed where the option is on, and may be missing elsewhere. Throws RELIABLE_BAD_OPTION. */
export function loadOpenTelemetry(): OpenTelemetryApi {
  try {
    return require("@opentelemetry/api") as OpenTelemetryApi;
  } catch (error) {
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The option 'openTelemetry' needs the package '${PACKAGE}', which cannot be loaded here (npm install ${PACKAGE}).`,
      { option: "openTelemetry", package: PACKAGE },
      error
    );
  }
}
