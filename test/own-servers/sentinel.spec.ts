import { spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Redis } from "ioredis";
import { expect, it, onTestFinished } from "vitest";
import type { Health } from "../../src/operator/health";
import { cluster, until } from "../support/brokers";
import { ownServer } from "../support/own-servers";
import { freePort } from "../support/ports";
import { rowOf, runtimeOf } from "../support/runtime";
import { emitter, emitterOf } from "../support/services";

const ROOT = path.join(process.env["RELIABLE_SERVERS"] ?? "/var/cache/reliable-servers", "root");
const MASTER = "the-master";

/** A sentinel of the servers' own Redis, which fails over alone. */
async function sentinel(masterPort: number): Promise<{ host: string; port: number }> {
  const port = await freePort();
  const folder = `/var/lib/redis/sentinel-${port}`;
  mkdirSync(ROOT + folder, { recursive: true });
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${folder}`,
    `sentinel monitor ${MASTER} 127.0.0.1 ${masterPort} 1`,
    `sentinel down-after-milliseconds ${MASTER} 1000`,
    `sentinel failover-timeout ${MASTER} 3000`
  ];
  writeFileSync(`${ROOT + folder}/sentinel.conf`, lines.join("\n"));
  const child = spawn("chroot", [ROOT, "/usr/bin/redis-server", `${folder}/sentinel.conf`, "--sentinel"], {
    stdio: "ignore"
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
    rmSync(ROOT + folder, { recursive: true, force: true });
  });
  return { host: "127.0.0.1", port };
}

it("behind Sentinel, a node sweeps on and answers through a failover, and holds the lease afterwards", {
  timeout: 400_000
}, async () => {
  const [master, replica] = [await ownServer("redis"), await ownServer("redis")];
  const portOf = (url: string) => Number(new URL(url).port);
  const admin = new Redis(replica.url);
  onTestFinished(() => admin.disconnect());
  await admin.replicaof("127.0.0.1", portOf(master.url));
  await until(async () => (await admin.info("replication")).includes("master_link_status:up"));
  const asked = await sentinel(portOf(master.url));
  const client = new Redis({ sentinels: [asked], name: MASTER });
  client.on("error", () => undefined);
  onTestFinished(() => client.disconnect());
  const made = cluster();
  const broker = await made.node("a", [emitter(made.mixin({ redis: client }))]);
  const mode = () => runtimeOf(broker).needStorage().sweeper.mode;
  await until(mode, seen => seen === "held");
  // Until the sentinel knows the replica, it has nobody to fail over to.
  const watch = new Redis(asked);
  onTestFinished(() => watch.disconnect());
  await until(async () => ((await watch.call("sentinel", "replicas", MASTER)) as unknown[]).length === 1);
  await master.freeze();
  const from = performance.now();
  // An event without a group needs sweeps to become dead.
  const { id } = await emitterOf(broker)("nobody.listens", {}, { maxAttempts: 2, unroutableMs: 0 });
  await until(
    () => rowOf(broker, id),
    row => row.status === "dead",
    5000
  );
  const health = await broker.call<Health, object>("reliable.health", {});
  expect(performance.now() - from).toBeLessThan(7000);
  expect(health.ok).toBe(true);
  await until(async () => (await admin.info("replication")).includes("role:master"), Boolean, 30_000);
  await until(mode, seen => seen === "held", 30_000);
});
