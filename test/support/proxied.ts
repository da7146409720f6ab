import { onTestFinished } from "vitest";
import type { ReliableOptions } from "../../src";
import { backend } from "./brokers";
import { urls } from "./servers";
import { type TcpProxy, tcpProxy } from "./tcp-proxy";

/**
 * RabbitMQ, MongoDB and Redis, in this order, each behind a proxy of the test's own, which counts connections; none
 * with the embedded default.
 */
export async function proxied(): Promise<{ options: ReliableOptions; proxies: TcpProxy[] }> {
  if (backend === "embedded") return { options: {}, proxies: [] };
  const proxies = await Promise.all(
    [urls().amqp, urls().mongo, urls().redis].map(url =>
      tcpProxy({ host: "127.0.0.1", port: Number(new URL(url).port) })
    )
  );
  onTestFinished(() => Promise.all(proxies.map(proxy => proxy.close())).then(() => undefined));
  const [amqp, mongo, redis] = proxies.map(({ port }) => port);
  return {
    proxies,
    options: {
      amqp: `amqp://guest:guest@127.0.0.1:${amqp}`,
      mongo: `mongodb://127.0.0.1:${mongo}/?directConnection=true`,
      redis: `redis://127.0.0.1:${redis}`
    }
  };
}
