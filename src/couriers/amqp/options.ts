import type { SocketOptions } from "amqplib";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import type { Sign } from "../courier";

export interface AmqpCourierOptions {
  /** `amqp://` or `amqps://` addresses of one cluster: an array, or one string separated by `;` or `,`. */
  urls: string | string[];
  /** The Moleculer namespace; may be empty. */
  namespace: string;
  nodeID: string;
  logger: Logger;
  clock: Clock;
  /**
   * @default 30000 A shorter time than a dead connection takes to be noticed would make outcomes unknown without need.
   */
  confirmTimeoutMs?: number;
  /** @default 1000 Publishes in flight. 100 gives a third less throughput at an eighth of the latency. */
  window?: number;
  /** @default 60000 How often all declarations are repeated, so that a deleted queue or binding comes back. */
  repairEveryMs?: number;
  /** @default true Makes the events exchange, and makes it again. False on a node that publishes no events. */
  declares?: boolean;
  /** @default 10 A dead connection is noticed within three heartbeats. */
  heartbeatS?: number;
  /** Signs what is published. */
  sign?: Sign | undefined;
  /** TLS and socket options for `net.connect` or `tls.connect`. */
  socket?: SocketOptions;
}
