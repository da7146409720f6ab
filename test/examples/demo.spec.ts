import { randomBytes } from "node:crypto";
import { expect, inject, it } from "vitest";
import { backend, until } from "../support/brokers";
import { startNode, type TestNode } from "../support/child";

const LIMIT_MS = 150_000;
const namespace = `demo-${randomBytes(4).toString("hex")}`;

function start(): Promise<TestNode> {
  const servers = backend === "real" ? inject("servers") : undefined;
  const env = {
    AMQP_URL: servers?.amqp ?? "",
    MONGO_URL: servers?.mongo ?? "",
    REDIS_URL: servers?.redis ?? "",
    DEMO_NAMESPACE: namespace
  };
  return startNode("examples/orders/demo.js", { env });
}

const emitted = ({ output }: TestNode): number =>
  Math.max(0, ...[...output.matchAll(/emitted (\d+)\/200/g)].map(([, count]) => Number(count)));

it(
  "the demo accounts for every order, though one of its processes is killed",
  async () => {
    let demo = await start();
    await until(
      () => emitted(demo),
      count => count > 40,
      60_000
    );
    if (backend === "real") process.kill(Number(/node stock: process (\d+)/.exec(demo.output)?.[1]), "SIGKILL");
    else {
      await demo.kill("SIGKILL");
      demo = await start();
    }

    const { code } = await demo.exited;

    expect(demo.output).toMatch(/order-77 +│ mail +│ 5 of 5/);
    expect(demo.output).toContain("call reliable.retry --id order-77");
    expect(demo.output.match(/│ 200 +│ none +│ 0 /g)).toHaveLength(3);
    expect(demo.output).toMatch(/Every order is accounted for/);
    if (backend === "real") expect(demo.output).toMatch(/node stock: process \d+ ended \(SIGKILL\), starting it again/);
    expect(code).toBe(0);
  },
  LIMIT_MS
);
