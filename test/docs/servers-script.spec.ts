import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, it, onTestFinished } from "vitest";

const PORTS = { AMQP_PORT: "5711", REDIS_PORT: "6411", MONGO_PORT: "27111", PG_PORT: "5511" };

it.each(["wipe", "stop"])(
  "`servers %s` refuses some of the four ports: it would take the default instance too",
  verb => {
    // A root without servers: if it does not refuse, it must not touch those that run.
    const root = mkdtempSync(path.join(tmpdir(), "servers-"));
    onTestFinished(() => rmSync(root, { recursive: true, force: true }));
    for (const missing of Object.keys(PORTS)) {
      const { [missing]: _, ...env } = { ...process.env, ...PORTS, RELIABLE_SERVERS: root } as Record<string, string>;
      const { status, stderr } = spawnSync("test/servers/servers", [verb], { env, encoding: "utf8" });
      expect([status, stderr]).toEqual([1, expect.stringContaining(`missing: ${missing})`)]);
    }
  }
);
