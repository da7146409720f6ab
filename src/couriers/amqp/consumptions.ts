import type { ChannelModel } from "amqplib";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import type { ConsumeSpec } from "../courier";
import type { AmqpConnection } from "./connection";
import { AmqpConsumption } from "./consumption";
import type { Declarations } from "./declarations";
import { assertChannels, DECLARE_MS } from "./declare";

export interface ConsumptionsParts {
  connection: AmqpConnection;
  declare: AmqpConnection;
  declarations: Declarations;
  logger: Logger;
  clock: Clock;
  /** Undefined from the beginning of a close. */
  model(): ChannelModel | undefined;
  marked(name: string): Promise<boolean>;
  onFailure(error: Error): void;
}

/** What this node consumes: a channel each, on one connection. */
export class Consumptions {
  readonly #all = new Set<AmqpConsumption>();

  constructor(private readonly parts: ConsumptionsParts) {}

  async add(spec: ConsumeSpec): Promise<AmqpConsumption> {
    const { declarations, connection, logger, clock, model, marked, onFailure } = this.parts;
    await declarations.declare(spec.queue);
    assertChannels(connection.channelMax, this.#all.size + 1, spec.queue.name);
    const consumption: AmqpConsumption = new AmqpConsumption({
      ...{ spec, logger, clock, model, marked, onFailure },
      declare: () => declarations.again(spec.queue),
      onClosed: () => this.#closed(consumption)
    });
    this.#all.add(consumption);
    await consumption.open();
    return consumption;
  }

  /** After a connect: queues are declared first, if that can be done soon. */
  async openSoon(): Promise<void> {
    await this.parts.declare.whenUp(DECLARE_MS);
    this.open();
  }

  /** Not awaited: a queue that cannot be declared must not delay the others. */
  open(): void {
    for (const consumption of this.#all) void consumption.open();
  }

  async move(): Promise<void> {
    await Promise.all([...this.#all].map(consumption => consumption.move()));
  }

  abandon(): void {
    for (const consumption of this.#all) consumption.abandon();
  }

  /** Queues that are not consumed and should be. */
  get idle(): string[] {
    return [...this.#all].filter(({ active, suspended }) => !active && !suspended).map(({ queue }) => queue);
  }

  /** The queue of a group that this node does not consume any more is not declared again: it may be forgotten. */
  #closed(consumption: AmqpConsumption): void {
    const { declarations } = this.parts;
    this.#all.delete(consumption);
    const { queue } = consumption;
    const shared = [...this.#all].some(other => other.queue === queue);
    if (!shared && declarations.get(queue)?.bindings.length) declarations.forget(queue);
  }
}
