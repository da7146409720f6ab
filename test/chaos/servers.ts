import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { type ChannelModel, connect } from "amqplib";
import { freePort } from "../support/ports";

const run = promisify(execFile);
const SCRIPT = path.resolve("test/servers/servers");
const CLUSTER = path.resolve("test/servers/cluster");
const SENTINEL = path.resolve("test/servers/sentinel");

export type ServerName = "rabbitmq" | "mongo" | "postgres" | "redis";

/**
 * RabbitMQ, a MongoDB-protocol server with its database, and Redis: of this run alone, on ports and with data of their
 * own.
 */
export class Servers {
  /** Addresses of RabbitMQ's nodes. */
  readonly nodes: string[];

  private constructor(
    private readonly ports: Record<"AMQP_PORT" | "MONGO_PORT" | "REDIS_PORT" | "PG_PORT", number>,
    /** RabbitMQ on three nodes, Redis behind Sentinels. */
    readonly clustered: boolean
  ) {
    this.nodes = clustered
      ? [1, 2, 3].map(n => `amqp://guest:guest@10.77.32.${n}:5731`)
      : [`amqp://guest:guest@127.0.0.1:${ports.AMQP_PORT}`];
  }

  static async start(clustered = false): Promise<Servers> {
    const ports = {
      AMQP_PORT: await freePort(),
      MONGO_PORT: await freePort(),
      REDIS_PORT: await freePort(),
      PG_PORT: await freePort()
    };
    const servers = new Servers(ports, clustered);
    try {
      for (const name of clustered ? ["postgres", "mongo"] : [""])
        await servers.script("start", ...(name ? [name] : []));
      if (clustered) await Promise.all([servers.cluster("start"), servers.sentinel("start")]);
    } catch (error) {
      throw new Error(
        `The fault matrix breaks servers of its own, which needs Debian and root: \`test/servers/servers start\` says: ${(error as { stderr?: string }).stderr || (error as Error).message}`
      );
    }
    return servers;
  }

  /** By that of RabbitMQ's nodes which answers. */
  async connect(): Promise<ChannelModel> {
    let failure: unknown;
    for (const url of this.nodes) {
      try {
        const model = await connect(url, { timeout: 5000 });
        model.on("error", () => undefined);
        return model;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  /** See `test/servers/cluster`. */
  async cluster(...args: string[]): Promise<string> {
    return (await run(CLUSTER, args, { maxBuffer: 1e8 })).stdout;
  }

  /** See `test/servers/sentinel`. */
  async sentinel(...args: string[]): Promise<string> {
    return (await run(SENTINEL, args)).stdout;
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
    if (this.clustered) await Promise.all([this.cluster("wipe"), this.sentinel("wipe")]);
    await this.script("wipe");
  }

  private async script(...args: string[]): Promise<string> {
    const env = Object.fromEntries(Object.entries(this.ports).map(([name, port]) => [name, String(port)]));
    const { stdout } = await run(SCRIPT, args, { env: { ...process.env, ...env }, maxBuffer: 1e8 });
    return stdout;
  }
}
