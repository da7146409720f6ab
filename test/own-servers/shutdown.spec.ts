import { expect, it } from "vitest";
import { cluster } from "../support/brokers";
import { startNode } from "../support/child";
import { drainTimeoutMs, LIMIT_MS, stopsUnderLoad } from "../support/shutdown";

stopsUnderLoad("outbox");

it("SIGTERM in the middle of a start: exit code 0, in time, and nothing is said about it", {
  timeout: 400_000
}, async () => {
  const { namespace, options } = cluster();
  const start = () =>
    startNode("test/support/busy-node.ts", {
      env: { NODE: JSON.stringify({ namespace, options: options({ drainTimeoutMs }) }) }
    });
  const whole = await start();
  await whole.next("starting");
  const from = performance.now();
  await whole.next("started");
  const length = performance.now() - from;
  await whole.kill("SIGKILL");

  let overtaken = 0;
  for (const part of [0, 0.2, 0.4, 0.6, 0.8]) {
    const node = await start();
    await node.next("starting");
    await new Promise(resolve => setTimeout(resolve, part * length));
    const told = performance.now();
    await node.kill("SIGTERM");
    expect(await node.exited).toEqual({ code: 0, signal: null });
    expect(performance.now() - told).toBeLessThan(LIMIT_MS);
    expect(node.output).toBe("");
    // Its start may have come to its end in the pause that Moleculer makes before it stops services; then it has
    // emitted.
    if (!node.all("promised").length) overtaken++;
  }
  expect(overtaken).toBeGreaterThan(0);
});
