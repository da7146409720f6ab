import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { urls } from "../../support/servers";

const run = promisify(execFile);

/** What it measures is nobody's business here: only that it still runs. */
async function bench(...args: string[]): Promise<string[][]> {
  const { amqp, mongo, redis } = urls();
  const { stdout } = await run(process.execPath, ["bench/run.mjs", "--quick", ...args], {
    env: { ...process.env, AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis }
  });
  return stdout
    .split("\n")
    .filter(line => /^\| P\d/.test(line))
    .map(line => line.slice(2, -2).split(" | "));
}

it("the benchmark runs", async () => {
  const lines = await bench("--only", "P9");
  expect(lines.map(([id, what]) => [id, what])).toEqual([
    ["P9", "store commands per message, whole life, `outbox`"],
    ["P9", "store commands per message on the producer, `callback`"]
  ]);
  // The one figure that does not depend on the machine.
  expect(lines[1]?.[4]).toBe("**0**");
}, 600_000);

it("and names its rows when asked for one it has not", async () => {
  await expect(bench("--only", "P99")).rejects.toThrow(
    "There is no row P99: P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P13, P14, P15, P12."
  );
});
