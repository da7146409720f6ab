// bench/results.md: one section per heading, each written by whoever measures it; the others stay as they are.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import { connect } from "amqplib";
import { Redis } from "ioredis";
import { MongoClient } from "mongodb";
import { urls } from "./world.mjs";

const RESULTS = new URL("../results.md", import.meta.url);

export function readSection(heading) {
  const text = existsSync(RESULTS) ? readFileSync(RESULTS, "utf8") : "";
  const from = text.indexOf(`${heading}\n`);
  if (from < 0) return "";
  const next = text.indexOf("\n## ", from);
  return text.slice(from + heading.length, next < 0 ? undefined : next).trim();
}

export function writeSection(heading, body) {
  const before = existsSync(RESULTS) ? readFileSync(RESULTS, "utf8") : "# Results\n";
  const from = before.indexOf(`${heading}\n`);
  const next = from < 0 ? -1 : before.indexOf("\n## ", from);
  writeFileSync(
    RESULTS,
    `${(from < 0 ? before : before.slice(0, from)).trimEnd()}\n\n${heading}\n\n${body.trim()}\n${next < 0 ? "" : before.slice(next)}`
  );
}

export const table = (head, rows) =>
  [head, head.map(() => "---"), ...rows].map(cells => `| ${cells.join(" | ")} |`).join("\n");

const packageVersion = name =>
  JSON.parse(readFileSync(new URL(`../../node_modules/${name}/package.json`, import.meta.url), "utf8")).version;

async function engine() {
  const client = await new MongoClient(urls.mongo).connect();
  const info = await client.db("admin").command({ buildInfo: 1 });
  await client.close();
  return info.storageEngines?.includes("documentdb")
    ? "DocumentDB on PostgreSQL behind test/servers/gateway.mjs (not MongoDB itself)"
    : `MongoDB ${info.version}`;
}

const own = () => JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;

const machine = () =>
  `Node.js ${process.versions.node}, ${os.type()} ${os.release()}, ${os.cpus().length} cores (${os.cpus()[0].model.trim()}), ${Math.round(os.totalmem() / 2 ** 30)} GiB`;

/** Where the store alone was measured. */
export async function storeBed() {
  return `moleculer-reliable-emit ${own()}, mongodb ${packageVersion("mongodb")}, ${await engine()}, ${machine()}`;
}

/** What was measured, with what, on what; in one line. */
export async function bed() {
  const model = await connect(urls.amqp);
  const { product, version, platform } = model.connection.serverProperties;
  await model.close();
  const redis = new Redis(urls.redis);
  const redisVersion = /redis_version:(\S+)/.exec(await redis.info("server"))?.[1];
  redis.disconnect();
  const packages = ["moleculer", "amqplib", "mongodb", "ioredis", "@moleculer/channels"]
    .map(name => `${name} ${packageVersion(name)}`)
    .join(", ");
  return `moleculer-reliable-emit ${own()}, ${packages}, ${product} ${version} on ${platform}, ${await engine()}, Redis ${redisVersion}, ${machine()}`;
}
