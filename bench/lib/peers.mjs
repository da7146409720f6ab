// What the peers need: their packages, a Redis that is as durable as theirs can be, a database in PostgreSQL.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { newNamespace, until } from "./world.mjs";

const FOLDER = fileURLToPath(new URL("../peers", import.meta.url));
/** Where test/servers/servers has its Debian. */
const ROOT = `${process.env.RELIABLE_SERVERS ?? "/var/cache/reliable-servers"}/root`;
const POSTGRES = process.env.PG_URL ?? `postgres://postgres@127.0.0.1:${process.env.PG_PORT ?? 5490}/postgres`;

/** The peers' packages, as their lock file says; only a run that measures them asks for them. */
export function installPeers() {
  if (existsSync(`${FOLDER}/node_modules/.package-lock.json`)) return;
  console.log("The peers are not installed yet: npm ci --prefix bench/peers");
  try {
    execFileSync("npm", ["ci", "--prefix", FOLDER, "--no-audit", "--no-fund"], { stdio: "inherit" });
  } catch (error) {
    throw new Error("The peers could not be installed (is there a network?): npm ci --prefix bench/peers", {
      cause: error
    });
  }
}

const SIGNALS = ["SIGINT", "SIGTERM"];

const freePort = () =>
  new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

const answers = port =>
  new Promise(resolve => {
    const socket = connect({ host: "127.0.0.1", port }, () => socket.write("PING\r\n"));
    socket.once("data", data => {
      socket.destroy();
      resolve(data.toString().startsWith("+PONG"));
    });
    socket.once("error", () => resolve(false));
  });

/**
 * A Redis of its own that answers a write when it is on the disk, the same one as the other servers' data. `redis-server`
 * of test/servers/servers, or `BENCH_REDIS_SERVER`.
 */
export async function durableRedis() {
  const port = await freePort();
  const given = process.env.BENCH_REDIS_SERVER;
  const inRoot = `/var/lib/redis/bench-${port}`;
  const folder = given ? fileURLToPath(new URL(`../../.servers/redis-${port}`, import.meta.url)) : `${ROOT}${inRoot}`;
  if (!given && !existsSync(`${ROOT}/usr/bin/redis-server`))
    throw new Error("There is no redis-server: test/servers/servers start, or set BENCH_REDIS_SERVER.");
  mkdirSync(folder, { recursive: true });
  const [command, ...first] = given ? [given] : ["chroot", ROOT, "/usr/bin/redis-server"];
  const settings = ["--bind", "127.0.0.1", "--port", port, "--dir", given ? folder : inRoot, "--save", ""];
  const durable = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];
  const child = spawn(command, [...first, ...settings, ...durable].map(String), { stdio: "ignore" });
  const ended = new Promise(resolve => child.once("exit", resolve).once("error", resolve));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  // Also when the run is given up: nobody else knows of it.
  const givenUp = signal => {
    child.kill("SIGKILL");
    remove();
    process.exit(signal === "SIGINT" ? 130 : 143);
  };
  for (const signal of SIGNALS) process.once(signal, givenUp);
  const end = async () => {
    for (const signal of SIGNALS) process.off(signal, givenUp);
    child.kill("SIGTERM");
    await ended;
    remove();
  };
  try {
    await until(() => answers(port), "the peers' Redis to answer", { timeoutMs: 10_000 });
  } catch (error) {
    await end();
    throw error;
  }
  return { url: `redis://127.0.0.1:${port}`, end };
}

async function asAdmin(work) {
  const { pg } = await import("../peers/postgres.mjs");
  const client = new pg.Client(POSTGRES);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** A database of its own in the PostgreSQL of test/servers/servers (`PG_URL`, `PG_PORT`). */
export async function ownDatabase() {
  const name = newNamespace();
  const version = await asAdmin(async client => {
    await client.query(`create database "${name}"`);
    return (await client.query("show server_version")).rows[0].server_version;
  });
  const url = new URL(POSTGRES);
  url.pathname = `/${name}`;
  return { url: url.href, version, end: () => asAdmin(client => client.query(`drop database "${name}" with (force)`)) };
}
