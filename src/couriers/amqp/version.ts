import type { ChannelModel } from "amqplib";
import { ReliableError } from "../../errors";

/** The first in which quorum queues know a TTL, and dead-letter at least once: a check must neither stay nor be lost. */
const OLDEST = [3, 10] as const;

/** Throws RELIABLE_WRONG_VERSION. Another product that speaks AMQP 0-9-1 is told by its own refusals. */
export function checkVersion({ connection }: ChannelModel, label: string): void {
  const { product, version } = connection.serverProperties as { product?: string; version?: string };
  const found = /^(\d+)\.(\d+)/.exec(version ?? "");
  if (product !== "RabbitMQ" || !found) return;
  const [major, minor] = [Number(found[1]), Number(found[2])];
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return;
  throw new ReliableError(
    "RELIABLE_WRONG_VERSION",
    `RabbitMQ at ${label} is ${version}; ${OLDEST.join(".")} is the oldest whose quorum queues know a TTL.`,
    { option: "amqp", address: label, version }
  );
}
