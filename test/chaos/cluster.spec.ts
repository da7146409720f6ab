import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { CLUSTER_FAULTS } from "./matrix";
import { Servers } from "./servers";
import { nothingIsLost } from "./subset";

const run = promisify(execFile);

/** Why there can be no cluster here; undefined where there can be one. */
async function missing(): Promise<string | undefined> {
  const name = `try-${process.pid}`;
  try {
    await run("ip", ["netns", "add", name]);
    await run("ip", ["netns", "del", name]);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

it("three RabbitMQ nodes and Sentinel: nothing is lost", { timeout: 900_000 }, async () => {
  const reason = await missing();
  if (reason) {
    // Of a machine without them nothing can be said about a cluster; all else of the matrix was run.
    console.warn(`NOT RUN: faults of a cluster need network namespaces: ${reason}`);
    expect(reason).toMatch(/ip netns add|ENOENT/);
    return;
  }
  const servers = await Servers.start(true);
  onTestFinished(() => servers.wipe(), 120_000);
  for (const name of ["cluster-kill", "sentinel-kill"])
    await nothingIsLost(servers, { faults: CLUSTER_FAULTS, name, seed: 18, options: "--cluster " });
});
