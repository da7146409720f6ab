import type { ChannelModel } from "amqplib";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import type { ConsumeSpec } from "../courier";

export interface ConsumptionOptions {
  spec: ConsumeSpec;
  logger: Logger;
  clock: Clock;
  model(): ChannelModel | undefined;
  /** Declares the queue again, since it may have been deleted. */
  declare(): Promise<void>;
  /** See `Control.marked`. */
  marked(name: string): Promise<boolean>;
  onFailure(error: Error): void;
  onClosed(): void;
}
