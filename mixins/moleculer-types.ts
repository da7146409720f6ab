import type { Context, Service } from "moleculer";
import type { JobOptions } from "../src/amqp-queue/queues";
import type { EmitItem, EmitOptions } from "../src/emit/emit-options";
import type { EmitOutcome, EmitResult } from "../src/emit/strategy";
import type { CancelOptions } from "../src/operator/cancel";
import type { HandledPayload, ReliableEvent, ReliablePayload } from "../src/options/event-types";
import type { ConsumerOptions } from "../src/options/options";

/** Types `this.reliableEmit()`, `this.addAMQPJob()` and `events.x.reliable` on both Moleculer lines. */
declare module "moleculer" {
  interface Service {
    /** Only on services with the `ReliableEmit` mixin. */
    reliableEmit<Event extends ReliableEvent>(
      event: Event,
      payload: ReliablePayload<Event>,
      options?: EmitOptions
    ): Promise<EmitResult>;
    /** Only on services with the `ReliableEmit` mixin. */
    reliableEmitMany(items: EmitItem[], options?: EmitOptions): Promise<EmitOutcome[]>;
    /** Only on services with the `ReliableEmit` mixin. */
    reliableCancel(id: string, options?: CancelOptions): Promise<void>;
    /** Only on services with the `ReliableAmqpQueue` mixin. */
    addAMQPJob(queue: string, payload: unknown, options?: JobOptions): Promise<EmitResult>;
  }
  /** 0.15 */
  interface EventSchema {
    /** Makes it a consumer that answers for what it handles: true, or options of its own. */
    reliable?: boolean | Partial<ConsumerOptions>;
  }
  /** 0.14 */
  interface ServiceEvent {
    /** Makes it a consumer that answers for what it handles: true, or options of its own. */
    reliable?: boolean | Partial<ConsumerOptions>;
  }
}

/** The mixin's methods, for `ServiceSchema<Settings, ReliableMethods>`. */
export interface ReliableMethods extends Pick<Service, "reliableEmit" | "reliableEmitMany" | "reliableCancel"> {}

/** A handler of the event, for the `events` of a service: `this` is the service, `ctx.params` what was emitted. */
export type ReliableHandler<
  Event extends ReliableEvent,
  Meta extends object = Record<string, unknown>,
  Self = Service
> = (this: Self, ctx: Context<HandledPayload<Event>, Meta>) => void | Promise<void>;
