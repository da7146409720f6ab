import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { onTestFinished } from "vitest";
import { freePort } from "./ports";

const run = promisify(execFile);
const SCRIPT = path.resolve("test/servers/servers");

/** A server of one test's own: what is done to it disturbs no other test. */
export interface OwnServer {
  url: string;
  /** With a `tls` folder: where it listens with TLS. */
  tlsPort: number;
  start(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Of RabbitMQ: rabbitmqctl on it. */
  ctl(...args: string[]): Promise<string>;
}

const PORTS = { rabbitmq: "AMQP_PORT", redis: "REDIS_PORT", mongo: "MONGO_PORT" } as const;
const URLS = {
  rabbitmq: (port: number) => `amqp://guest:guest@127.0.0.1:${port}`,
  redis: (port: number) => `redis://127.0.0.1:${port}`,
  mongo: (port: number) => `mongodb://127.0.0.1:${port}/?replicaSet=rs0`
};

/**
 * Started, and stopped at the end of the test, by `test/servers/servers` (Debian, root): there is no other way to crash
 * a server that is ours alone. `mongo` is a gateway of its own before the PostgreSQL that all share. `tls`: a folder of
 * `certificates()`, for RabbitMQ and Redis.
 */
export async function ownServer(name: keyof typeof PORTS, { tls }: { tls?: string } = {}): Promise<OwnServer> {
  const [port, tlsPort] = [await freePort(), await freePort()];
  const env = { ...process.env, [PORTS[name]]: String(port), ...(tls && { TLS_DIR: tls, TLS_PORT: String(tlsPort) }) };
  const servers = async (...args: string[]): Promise<string> =>
    (await run(SCRIPT, args[0] === "ctl" ? args : [...args, name], { env, maxBuffer: 16 * 1024 * 1024 })).stdout;
  onTestFinished(async () => {
    await servers("thaw").catch(() => undefined);
    await servers("stop").catch(() => undefined);
  }, 60_000);
  await servers("start").catch((error: Error & { stderr?: string }) => {
    throw new Error(
      `This test crashes a server of its own, which needs Debian and root: \`test/servers/servers start ${name}\` says: ${error.stderr ?? error.message}`
    );
  });
  const act = (verb: string) => async () => void (await servers(verb));
  return {
    url: URLS[name](port),
    tlsPort,
    start: act("start"),
    kill: act("kill"),
    freeze: act("freeze"),
    thaw: act("thaw"),
    ctl: (...args) => servers("ctl", ...args)
  };
}
