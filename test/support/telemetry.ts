import { context, propagation, type TextMapPropagator, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  type Sampler,
  SimpleSpanProcessor,
  type SpanProcessor
} from "@opentelemetry/sdk-trace-base";
import { onTestFinished } from "vitest";
import { until } from "./brokers";

interface Setup {
  propagator?: TextMapPropagator;
  /** Beside the one that keeps the spans. */
  processor?: SpanProcessor;
  sampler?: Sampler;
}

export interface Telemetry {
  /** All that have ended, in the order in which they did. */
  spans(): ReadableSpan[];
  /** Those of a message's operation, once there are so many. */
  operation(type: string, count: number): Promise<ReadableSpan[]>;
}

/** OpenTelemetry of this process, as a user sets it up, until the end of the test. */
export function telemetry({ propagator, processor, sampler }: Setup = {}): Telemetry {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({
    ...(sampler && { sampler }),
    spanProcessors: [...(processor ? [processor] : []), new SimpleSpanProcessor(exporter)]
  });
  trace.setGlobalTracerProvider(provider);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(propagator ?? new W3CTraceContextPropagator());
  onTestFinished(() => {
    trace.disable();
    context.disable();
    propagation.disable();
  });
  const spans = () => exporter.getFinishedSpans();
  const of = (type: string) => spans().filter(({ attributes }) => attributes["messaging.operation.type"] === type);
  return {
    spans,
    async operation(type, count) {
      await until(
        () => spans().map(({ name }) => name),
        () => of(type).length === count
      );
      return of(type);
    }
  };
}

/** Names and values of it that tests compare. */
export function told({ name, kind, attributes, status, events }: ReadableSpan): object {
  return { name, kind, attributes, status, events: events.map(event => event.name) };
}

export const idOf = (span: ReadableSpan | undefined): string | undefined => span?.spanContext().spanId;
export const traceOf = (span: ReadableSpan | undefined): string | undefined => span?.spanContext().traceId;
/** Ids of the spans that it is linked to. */
export const linksOf = (span: ReadableSpan | undefined): string[] =>
  span?.links.map(({ context: linked }) => linked.spanId) ?? [];
