import { createRequire } from "node:module";
import { Errors, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import { ReliableError } from "../../src/errors";
import { startNode } from "../support/child";

const line = `${process.env["MOLECULER_LINE"]}.`;

it("runs on the Moleculer line of its project, in specs, sources and packages alike", () => {
  expect(["0.14.", "0.15."]).toContain(line);
  expect(ServiceBroker.MOLECULER_VERSION.startsWith(line)).toBe(true);
  expect(ReliableError.prototype).toBeInstanceOf(Errors.MoleculerError);
  const required = createRequire(__filename)("moleculer") as { ServiceBroker: typeof ServiceBroker };
  expect(required.ServiceBroker).toBe(ServiceBroker);
});

it("forks processes on that line, and on the other when asked", async () => {
  const other = line === "0.14." ? "0.15" : "0.14";
  const nodes = await Promise.all([
    startNode("test/support/line-node.ts"),
    startNode("test/support/line-node.ts", { line: other })
  ]);
  const said = await Promise.all(
    nodes.map(node => node.next<{ required: string; imported: string; ours: boolean }>("line"))
  );
  expect(said.map(({ required, imported, ours }) => [required.slice(0, 5), imported.slice(0, 5), ours])).toEqual([
    [line, line, true],
    [`${other}.`, `${other}.`, true]
  ]);
  nodes[0]?.tell("end", 3);
  expect(await nodes[0]?.exited).toEqual({ code: 3, signal: null });
  await nodes[1]?.kill("SIGKILL");
  expect(await nodes[1]?.exited).toEqual({ code: null, signal: "SIGKILL" });
  await expect(nodes[1]?.next("nothing")).rejects.toThrow("never said");
});
