import { randomBytes } from "node:crypto";
import { expect, inject, it } from "vitest";
import { backend, until } from "../support/brokers";
import { startNode, type TestNode } from "../support/child";
import { freePort } from "../support/ports";

const LIMIT_MS = 400_000;
const namespace = `demo-${randomBytes(4).toString("hex")}`;

function start(args: string[] = [], more: Record<string, string> = {}): Promise<TestNode> {
  const servers = backend === "real" ? inject("servers") : undefined;
  const env = {
    AMQP_URL: servers?.amqp ?? "",
    MONGO_URL: servers?.mongo ?? "",
    REDIS_URL: servers?.redis ?? "",
    DEMO_NAMESPACE: namespace,
    ...more
  };
  return startNode("examples/orders/demo.js", { env, args });
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
      120_000
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

it(
  "the demo with its page: the last step is the reader's, and it stays up until Ctrl-C",
  async () => {
    const port = await freePort();
    const demo = await start(["--dashboard", "--port", `${port}`], { DEMO_NAMESPACE: `${namespace}-page` });
    const page = `http://127.0.0.1:${port}`;
    await until(
      () => demo.output,
      output => output.includes("Your turn"),
      90_000
    );
    expect(demo.output.indexOf(`The operators' page: ${page}/`)).toBeLessThan(demo.output.indexOf("the mail server"));
    expect(await (await fetch(`${page}/`)).text()).toContain("<html");
    const said = await fetch(`${page}/api/retry`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-reliable-dashboard": "1", origin: page },
      body: JSON.stringify({ ids: ["order-77"], note: "mail domain added" })
    });
    expect(said.status).toBe(200);
    await until(
      () => demo.output,
      output => output.includes("Every order is accounted for. The page stays until Ctrl-C."),
      30_000
    );
    expect((await fetch(`${page}/api/session`)).status).toBe(200);
    process.kill(demo.pid, "SIGINT");
    expect(await demo.exited).toEqual({ code: 0, signal: null });
  },
  LIMIT_MS
);
