import type { Redis } from "ioredis";
import { withTimeout } from "../async/deadline";
import { ReliableError, reasonOf } from "../errors";
import { type Secured, withTls } from "../options/addresses";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import { tlsFailure } from "../platform/tls";
import type { RedisClient } from "./lease";

/**
 * A client that fails at once instead of queueing. With ioredis' own defaults a command on a dead Redis fails after
 * more than a minute (measured), too late for a lease.
 */
const FAIL_FAST = {
  enableOfflineQueue: false,
  maxRetriesPerRequest: 1,
  commandTimeout: 1000,
  connectTimeout: 2000,
  lazyConnect: true
} as const;

/** For wrong credentials to be told at the start. */
const FIRST_ANSWER_MS = 1000;

const REFUSED = /WRONGPASS|NOAUTH|invalid password|NOPERM/i;

export interface RedisConnection {
  client: RedisClient & { status: string };
  /** Address without credentials, or a text for a client that was handed in. */
  address: string;
  close(): Promise<void>;
}

/**
 * Rejects with RELIABLE_ACCESS_REFUSED on a wrong password and with RELIABLE_TLS_FAILED. A Redis that is down is no
 * error: the client goes on trying.
 */
export async function connectRedis(redis: unknown, logger: Logger, clock: Clock): Promise<RedisConnection> {
  const given: Secured | undefined = withTls(redis);
  if (!given)
    return { client: redis as RedisConnection["client"], address: "your client", close: async () => undefined };
  const { Redis: Client } = await import("ioredis");
  const client: Redis = new Client(given.url, { ...FAIL_FAST, ...(given.tls && { tls: given.tls }) });
  const { host, port } = client.options;
  const address = `${host}:${port}`;
  let last: string | undefined;
  // ioredis 5.3 reports this by an event only, and is "ready" for a moment all the same.
  let refused: unknown;
  let failure: Error | undefined;
  client.on("error", (error: Error) => {
    failure = error;
    const reason = reasonOf(error) || "not reachable";
    if (REFUSED.test(reason)) refused = error;
    if (reason !== last) logger.warn(`Reliable: Redis ${address}: ${reason}`);
    last = reason;
  });
  client.on("ready", () => {
    if (last !== undefined) logger.info(`Reliable: Redis ${address} is back.`);
    last = undefined;
  });
  try {
    // One that accepts and says nothing must not hold up the start.
    await withTimeout(
      client.connect().then(() => client.ping()),
      FIRST_ANSWER_MS,
      clock
    );
  } catch (error) {
    if (REFUSED.test(reasonOf(error))) refused = error;
    const broken = tlsFailure("Redis", "redis", address, failure);
    if (broken) {
      client.disconnect();
      throw broken;
    }
  }
  if (refused) {
    client.disconnect();
    throw new ReliableError(
      "RELIABLE_ACCESS_REFUSED",
      `Redis ${address} refuses the credentials given in the option 'redis'.`,
      { option: "redis", address },
      refused
    );
  }
  return { client, address, close: async () => client.disconnect() };
}
