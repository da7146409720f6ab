import { readFileSync } from "node:fs";
import { expect, inject, it } from "vitest";
import { startNode } from "../../support/child";

it("examples/amqp-queue: two lines of difference, old and new side by side, every mail once", async () => {
  const [before, after] = ["before", "after"].map(name =>
    readFileSync(`examples/amqp-queue/${name}/mail.service.js`, "utf8").split("\n")
  ) as [string[], string[]];
  expect(after.filter(line => !before.includes(line))).toHaveLength(2);
  expect(before.filter(line => !after.includes(line))).toHaveLength(1);

  const servers = inject("servers");
  const node = await startNode("examples/amqp-queue/run.js", {
    env: { AMQP_URL: servers.amqp, MONGO_URL: servers.mongo, REDIS_URL: servers.redis }
  });
  const { code } = await node.exited;
  expect(node.output).toMatch(
    /node old has delivered [1-7] mails\nnode changed has delivered [1-7] mails\nsettled by: confirm[\s\S]*by the broker's confirm[\s\S]*consumed/
  );
  expect(node.output).toMatch(
    /settled by: receipt[\s\S]*attempt 1 failed in queue[\s\S]*the mail server is down[\s\S]*handled by queue[\s\S]*attempt 2[\s\S]*consumed/
  );
  expect(node.output).toContain("Every mail was delivered once.");
  expect(code).toBe(0);
}, 600_000);
