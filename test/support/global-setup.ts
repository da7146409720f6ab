import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { connect } from "amqplib";
import { Redis } from "ioredis";
import { MongoClient } from "mongodb";
import type { TestProject } from "vitest/node" with { "resolution-mode": "import" };
import { findPython, type Python } from "./python";
import type { ServerUrls } from "./servers";

const run = promisify(execFile);
const PROBE_MS = 3000;

type Kind = keyof ServerUrls;

interface Answer {
  url: string;
  version: string;
}

interface Server {
  name: string;
  /** The variable with its address. */
  urlEnv: string;
  /** The variable with the port of an instance of one's own; without it the product's port and ours are tried. */
  portEnv: string;
  ports: readonly number[];
  service: string;
  recipe: string;
  example: string;
  at(port: number): string;
  ping(url: string): Promise<Answer>;
}

const SERVERS: Record<Kind, Server> = {
  amqp: {
    name: "RabbitMQ",
    urlEnv: "AMQP_URL",
    portEnv: "AMQP_PORT",
    ports: [5672, 5690],
    service: "rabbitmq",
    recipe: "rabbitmq",
    example: "amqp://USER:PASSWORD@HOST:5672",
    at: port => `amqp://guest:guest@127.0.0.1:${port}`,
    async ping(url) {
      const model = await connect(url, { timeout: PROBE_MS });
      model.on("error", () => undefined);
      const { version = "of unknown version" } = model.connection.serverProperties;
      await model.close();
      return { url, version };
    }
  },
  mongo: {
    name: "MongoDB",
    urlEnv: "MONGO_URL",
    portEnv: "MONGO_PORT",
    ports: [27017, 27090],
    service: "mongodb",
    recipe: "mongo",
    example: "'mongodb://HOST:27017/?replicaSet=rs0'",
    at: port => `mongodb://127.0.0.1:${port}/?directConnection=true`,
    async ping(url) {
      const client = new MongoClient(url, { serverSelectionTimeoutMS: PROBE_MS, connectTimeoutMS: PROBE_MS });
      try {
        const admin = client.db("admin");
        const hello = await admin.command({ hello: 1 });
        if (typeof hello["setName"] !== "string" && hello["msg"] !== "isdbgrid")
          throw new Error("it is neither a replica set nor a sharded cluster, which transactions need");
        const info = await admin.command({ buildInfo: 1 });
        const engines: unknown = info["storageEngines"];
        const engine =
          Array.isArray(engines) && engines.includes("documentdb")
            ? " (DocumentDB on PostgreSQL behind test/servers/gateway.mjs)"
            : "";
        // A single node was asked; the tests speak to the set.
        return {
          url: url.replace("directConnection=true", `replicaSet=${String(hello["setName"])}`),
          version: `${String(info["version"])}${engine}`
        };
      } finally {
        await client.close();
      }
    }
  },
  redis: {
    name: "Redis",
    urlEnv: "REDIS_URL",
    portEnv: "REDIS_PORT",
    ports: [6379, 6390],
    service: "redis",
    recipe: "redis",
    example: "redis://HOST:6379",
    at: port => `redis://127.0.0.1:${port}`,
    async ping(url) {
      const client = new Redis(url, {
        lazyConnect: true,
        connectTimeout: PROBE_MS,
        maxRetriesPerRequest: 0,
        retryStrategy: () => null
      });
      let cause: Error | undefined;
      client.on("error", error => (cause = error));
      try {
        await client.connect();
        const info = await client.info("server");
        return { url, version: /redis_version:(\S+)/.exec(info)?.[1] ?? "of unknown version" };
      } catch (error) {
        throw cause ?? error;
      } finally {
        client.disconnect();
      }
    }
  }
};
const KINDS = Object.keys(SERVERS) as Kind[];

function masked(text: string): string {
  return text.replace(/(\w+:\/\/)[^/?#@\s]*@/g, "$1***@");
}

/** Node's dual-stack connect wraps its refusals in an AggregateError without a text of its own. */
function reason(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reason).join(", ");
  return masked(error instanceof Error ? error.message || error.name : String(error));
}

/** What went wrong is around us, not in this file: a stack would only hide it. */
function plain(message: string): Error {
  const error = new Error(message);
  error.stack = `Error: ${message}`;
  return error;
}

function portsOf(server: Server): readonly number[] {
  const own = process.env[server.portEnv];
  return own ? [Number(own)] : server.ports;
}

function say(server: Server, answer: Answer, how: string): string {
  console.log(`test servers: ${server.name} ${answer.version} at ${masked(answer.url)} (${how})`);
  return answer.url;
}

async function listening(server: Server, how: string, problems: string[]): Promise<string | undefined> {
  const here: string[] = [];
  for (const port of portsOf(server)) {
    const url = server.at(port);
    try {
      return say(server, await server.ping(url), how);
    } catch (error) {
      here.push(`${server.name} at ${masked(url)}: ${reason(error)}`);
    }
  }
  problems.push(...here);
  return undefined;
}

async function given(server: Server): Promise<string | undefined> {
  const url = process.env[server.urlEnv];
  if (!url) return undefined;
  try {
    const answer = await server.ping(url);
    return say(server, { ...answer, url }, server.urlEnv);
  } catch (error) {
    throw plain(
      `${server.urlEnv} is ${masked(url)}, but ${server.name} does not answer there: ${reason(error)}\nStart it, correct ${server.urlEnv}, or unset it and the tests look for a server or start one.`
    );
  }
}

/** The servers' output goes to ours: an install takes a minute and should be seen to go on. */
async function command(file: string, args: string[]): Promise<void> {
  console.log(`test servers: ${[file, ...args].join(" ")}`);
  const child = spawn(file, args, { stdio: ["ignore", "inherit", "inherit"] });
  const code = await new Promise<number | null>((resolve, reject) => child.once("error", reject).once("exit", resolve));
  if (code !== 0) throw new Error(`${[file, ...args].join(" ")} ended with ${code ?? "a signal"}`);
}

async function hasDockerEngine(): Promise<boolean> {
  return run("docker", ["info", "--format", "{{.ServerVersion}}"], { timeout: 15_000 }).then(
    () => true,
    () => false
  );
}

/** Starts what is missing and tells by which means; undefined where there are none. */
async function start(missing: Server[]): Promise<string | undefined> {
  if (await hasDockerEngine()) {
    await command("docker", ["compose", "up", "-d", "--wait", ...missing.map(server => server.service)]);
    return "started by docker compose; left running, `docker compose down` ends it";
  }
  if (existsSync("/etc/debian_version") && process.getuid?.() === 0) {
    for (const server of missing) await command("test/servers/servers", ["start", server.recipe]);
    return "started by test/servers/servers; left running, `test/servers/servers stop` ends it";
  }
  return undefined;
}

function help(missing: Server[], problems: string[]): Error {
  return plain(
    [
      `The tests need ${missing.map(server => server.name).join(" and ")}, and there is none to be had here:`,
      ...problems.map(problem => `  ${problem}`),
      "Any one of these helps:",
      `  docker compose up -d --wait ${missing.map(server => server.service).join(" ")}     (no Docker engine answers here now)`,
      "  sudo test/servers/servers start     (Debian, as root)",
      `  ${missing.map(server => `${server.urlEnv}=${server.example}`).join(" ")} npm test     (servers of your own)`,
      "Without servers: npm run test:quick"
    ].join("\n")
  );
}

async function find(): Promise<ServerUrls> {
  const urls: Partial<ServerUrls> = {};
  const problems: string[] = [];
  const look = async (kinds: Kind[], how: string) => {
    for (const kind of kinds) {
      const url = await listening(SERVERS[kind], how, problems);
      if (url) urls[kind] = url;
    }
    return KINDS.filter(kind => !urls[kind]);
  };
  for (const kind of KINDS) {
    const url = await given(SERVERS[kind]);
    if (url) urls[kind] = url;
  }
  let missing = await look(
    KINDS.filter(kind => !urls[kind]),
    "found listening; left as it is"
  );
  if (missing.length) {
    const servers = missing.map(kind => SERVERS[kind]);
    const how = await start(servers).catch((error: unknown) => void problems.push(reason(error)));
    if (how) missing = await look(missing, how);
  }
  if (missing.length)
    throw help(
      missing.map(kind => SERVERS[kind]),
      problems
    );
  return urls as ServerUrls;
}

declare global {
  var reliableTestServers: Promise<ServerUrls> | undefined;
  var reliableTestPython: Promise<Python> | undefined;
}

/** Vitest loads this file once for each project that names it; they share one search. */
export default async function setup(project: TestProject): Promise<void> {
  globalThis.reliableTestServers ??= find();
  project.provide("servers", await globalThis.reliableTestServers);
  // After the servers, whose installation may hold apt's lock.
  globalThis.reliableTestPython ??= findPython();
  project.provide("python", await globalThis.reliableTestPython);
}
