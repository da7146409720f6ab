import { uuidv7 } from "uuidv7";
import { ReliableError } from "../errors";
import { ANY_GROUP } from "../message/message";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";
import type { Callback } from "./callback";
import type { EmitOptions } from "./emit-options";
import { businessWrite } from "./intent";
import { type EmitSource, newMessage } from "./new-message";
import type { Outbox } from "./outbox";
import type { EmitResult } from "./strategy";

export interface EmitterParts {
  nodeID: string;
  callback: Callback;
  /** Options that need a store. */
  outbox: Outbox | undefined;
  store: Store | undefined;
  subscriptions: Subscriptions | undefined;
  metrics: Metrics;
  logger: Logger;
  clock: Clock;
  emitTimeoutMs: number;
}

/** `reliableEmit`: checks its arguments, then lets the strategy keep the message. */
export class Emitter {
  constructor(private readonly parts: EmitterParts) {}

  /** See EmitOptions. Throws RELIABLE_NO_STORE, and what `newMessage` and the strategies throw. */
  async emit(source: EmitSource, event: string, payload: unknown, options: EmitOptions): Promise<EmitResult> {
    const { callback, metrics, clock, logger, emitTimeoutMs } = this.parts;
    const strategy = (options?.strategy ?? source.options.strategy) === "callback" ? callback : this.#outbox();
    const message = newMessage(source, event, payload, options, this);
    const started = clock.monotonic();
    const { commit, session, waitFor = "stored", timeoutMs = emitTimeoutMs } = options;
    const write = commit && businessWrite(message, payload, commit, { intents: () => this.#store().intents, logger });
    const result = await strategy.emit(message, { write, session, waitFor, timeoutMs });
    metrics.emitted(event);
    metrics.time("emit.time", clock.monotonic() - started, event);
    return result;
  }

  id(): string {
    return uuidv7();
  }

  now(): Date {
    return new Date(this.parts.clock.now());
  }

  waitingFor(event: string, groups?: string[]): string[] {
    return this.parts.subscriptions?.waitingFor(event, groups) ?? groups ?? [ANY_GROUP];
  }

  #outbox(): Outbox {
    return this.parts.outbox ?? this.#refuse();
  }

  #store(): Store {
    return this.parts.store ?? this.#refuse();
  }

  #refuse(): never {
    throw noStore(this.parts.nodeID);
  }
}

export function noStore(nodeID: string): ReliableError {
  return new ReliableError("RELIABLE_NO_STORE", `Node '${nodeID}' has no store: give the option 'mongo' (or 'path').`, {
    option: "mongo",
    nodeID
  });
}
