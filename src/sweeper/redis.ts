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
 * more than a minute (measured), too late for a lease. The limit of each command is the lease's; a connection that owes
 * an answer for five seconds is made anew (ioredis below 5.5 leaves that to TCP).
 */
const FAIL_FAST = {
  enableOfflineQueue: false,
  maxRetriesPerRequest: 1,
  socketTimeout: 5000,
  connectTimeout: 2000,
  lazyConnect: true
} as const;

/** For wrong credentials to be told at the start. */
const FIRST_ANSWER_MS = 1000;

const REFUSED = /WRONGPASS|NOAUTH|invalid password|NOPERM/i;

export interface RedisConnection {
  client: RedisClient;
  /** Address without credentials, or a text for a client that was handed in. */
  address: string;
  /** Ends our own client; one that was handed in stays as it is. */
  close(): Promise<void>;
}

/**
 * Rejects with RELIABLE_ACCESS_REFUSED on a wrong password and with RELIABLE_TLS_FAILED. A Redis that is down is no
 * error: the client goes on trying. A client that was handed in is neither waited for nor changed nor closed.
 */
export async function connectRedis(redis: unknown, logger: Logger, clock: Clock): Promise<RedisConnection> {
  const given: Secured | undefined = withTls(redis);
  if (!given) {
    const client = redis as Redis;
    const { end } = watch(client, "(your client)", logger);
    return { client, address: "your client", close: async () => end() };
  }
  const { Redis: Client } = await import("ioredis");
  const client: Redis = new Client(given.url, { ...FAIL_FAST, ...(given.tls && { tls: given.tls }) });
  const { host, port } = client.options;
  const address = `${host}:${port}`;
  const seen = watch(client, address, logger);
  try {
    // One that accepts and says nothing must not hold up the start.
    await withTimeout(
      client.connect().then(() => client.ping()),
      FIRST_ANSWER_MS,
      clock
    );
  } catch (error) {
    if (REFUSED.test(reasonOf(error))) seen.refused = error;
    const broken = tlsFailure("Redis", "redis", address, seen.failure);
    if (broken) {
      client.disconnect();
      throw broken;
    }
  }
  if (seen.refused) {
    client.disconnect();
    throw new ReliableError(
      "RELIABLE_ACCESS_REFUSED",
      `Redis ${address} refuses the credentials given in the option 'redis'.`,
      { option: "redis", address },
      seen.refused
    );
  }
  return { client, address, close: async () => client.disconnect() };
}

interface Seen {
  failure?: Error;
  /** ioredis 5.3 reports this by an event only, and is "ready" for a moment all the same. */
  refused?: unknown;
  /** Listens no longer. */
  end(): void;
}

/**
 * Logs each failure of a client once, and its end. Nobody else may be listening: then ioredis' Redis prints an error,
 * and its Cluster may throw it.
 */
function watch(client: Redis, name: string, logger: Logger): Seen {
  let last: string | undefined;
  const failed = (error: Error) => {
    seen.failure = error;
    const reason = reasonOf(error) || "not reachable";
    if (REFUSED.test(reason)) seen.refused = error;
    if (reason !== last) logger.warn(`Reliable: Redis ${name}: ${reason}`);
    last = reason;
  };
  const ready = () => {
    if (last !== undefined) logger.info(`Reliable: Redis ${name} is back.`);
    last = undefined;
  };
  const seen: Seen = {
    end() {
      client.off("error", failed);
      client.off("ready", ready);
    }
  };
  client.on("error", failed);
  client.on("ready", ready);
  return seen;
}
