import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { freePort } from "../support/ports";

const run = promisify(execFile);
const SCRIPT = path.resolve("test/servers/servers");

export type ServerName = "rabbitmq" | "mongo" | "postgres" | "redis";

/**
 * RabbitMQ, a MongoDB-protocol server with its database, and Redis: of this run alone, on ports and with data of their
 * own.
 */
export class Servers {
  private constructor(private readonly ports: Record<"AMQP_PORT" | "MONGO_PORT" | "REDIS_PORT" | "PG_PORT", number>) {}

  static async start(): Promise<Servers> {
    const ports = {
      AMQP_PORT: await freePort(),
      MONGO_PORT: await freePort(),
      REDIS_PORT: await freePort(),
      PG_PORT: await freePort()
    };
    const servers = new Servers(ports);
    try {
      await servers.script("start");
    } catch (error) {
      throw new Error(
        `The fault matrix breaks servers of its own, which needs Debian and root: \`test/servers/servers start\` says: ${(error as { stderr?: string }).stderr || (error as Error).message}`
      );
    }
    return servers;
  }

  get amqp(): string {
    return `amqp://guest:guest@127.0.0.1:${this.ports.AMQP_PORT}`;
  }

  get mongo(): string {
    return `mongodb://127.0.0.1:${this.ports.MONGO_PORT}/?replicaSet=rs0`;
  }

  get redis(): string {
    return `redis://127.0.0.1:${this.ports.REDIS_PORT}`;
  }

  port(link: "amqp" | "mongo" | "redis"): number {
    return this.ports[`${link.toUpperCase() as "AMQP" | "MONGO" | "REDIS"}_PORT`];
  }

  start(name: ServerName): Promise<string> {
    return this.script("start", name);
  }

  /** An orderly end. */
  stop(name: ServerName): Promise<string> {
    return this.script("stop", name);
  }

  /** SIGKILL. */
  kill(name: ServerName): Promise<string> {
    return this.script("kill", name);
  }

  freeze(name: ServerName): Promise<string> {
    return this.script("freeze", name);
  }

  thaw(name: ServerName): Promise<string> {
    return this.script("thaw", name);
  }

  /** rabbitmqctl. */
  ctl(...args: string[]): Promise<string> {
    return this.script("ctl", ...args);
  }

  /** Stops all and deletes their data. */
  async wipe(): Promise<void> {
    await this.script("wipe");
  }

  private async script(...args: string[]): Promise<string> {
    const env = Object.fromEntries(Object.entries(this.ports).map(([name, port]) => [name, String(port)]));
    const { stdout } = await run(SCRIPT, args, { env: { ...process.env, ...env }, maxBuffer: 1e8 });
    return stdout;
  }
}
