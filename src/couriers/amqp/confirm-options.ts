import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import type { PublishResult } from "../courier";
import type { Entry } from "./outgoing";
import type { Refusal } from "./refusal";

export interface ConfirmChannelOptions {
  window: number;
  windowBytes: number;
  confirmTimeoutMs: number;
  logger: Logger;
  clock: Clock;
  /** The channel was lost or replaced while its connection is open. `refusal`: because of a publish. */
  onChannelLost(reason: string, refusal?: Refusal): void;
  /** No confirm has come for `confirmTimeoutMs`. */
  onSilent(reason: string): void;
  /**
   * The broker has refused one of these, and it is not known which. Each waits for its outcome; nobody else has them
   * now.
   */
  onSuspects(suspects: Entry[]): void;
  /** Called once for every publish, before its promise is settled; without a result when the publish is rejected. */
  onSettled(routingKey: string, result?: PublishResult): void;
}
