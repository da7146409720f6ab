import { readFileSync } from "node:fs";
import { expect, inject, it } from "vitest";
import { backend, until } from "../support/brokers";
import { startNode } from "../support/child";
import { codeAfter } from "../support/pages";
import { freePort } from "../support/ports";

const LIMIT_MS = 400_000;

/** Runs an example to its end and returns what it printed. */
async function run(file: string, args: string[] = []): Promise<{ output: string; code: number | null }> {
  const servers = backend === "real" ? inject("servers") : undefined;
  const env = { AMQP_URL: servers?.amqp ?? "", MONGO_URL: servers?.mongo ?? "", REDIS_URL: servers?.redis ?? "" };
  const node = await startNode(file, { env, args });
  const { code } = await node.exited;
  return { output: node.output, code };
}

const STRATEGIES = [
  ["outbox", 1, 0],
  ["callback", 0, 2]
] as const;

it.each(STRATEGIES)(
  "examples/strategies with %s: %i store writes and %i publishes on the hot path, nothing missing",
  async (strategy, writes, publishes) => {
    const { output, code } = await run("examples/strategies/run.js", [strategy]);

    expect(output).toMatch(
      new RegExp(
        `${strategy === "outbox" ? "stored" : "emitted"} by orders for[\\s\\S]*attempt 1 failed in mail.*the mail server is down[\\s\\S]*handled by mail.*attempt 2[\\s\\S]*consumed`
      )
    );
    expect(output).toMatch(new RegExp(`before it resolved +│ ${writes} +│ ${publishes} `));
    expect(output.match(/│ 20 +│ none +│ 0 /g)).toHaveLength(2);
    expect(output).toContain("Every order is accounted for.");
    expect(code).toBe(0);
  },
  LIMIT_MS
);

it.each(backend === "real" ? (["outbox", "callback"] as const) : (["outbox"] as const))(
  "examples/intent-first with %s: what was committed is announced, and nothing else",
  async strategy => {
    const { output, code } = await run("examples/intent-first/run.js", [strategy]);

    const proofs = backend === "real" ? ["source", "barrier"] : ["source"];
    expect(output.match(/ended \(SIGKILL\)/g)).toHaveLength(2 * proofs.length);
    for (const proof of proofs) {
      expect(output).toMatch(new RegExp(`order-${proof}-before +│ none +│ 0 +│ withdrawn`));
      expect(output).toMatch(new RegExp(`order-${proof}-after +│ committed +│ [1-9]\\d* +│ consumed`));
    }
    expect(output).toMatch(
      /orders\.find is asked for order-source-before: null[\s\S]*orders\.find is asked for order-source-after: here it is/
    );
    if (backend === "real")
      expect(output).toMatch(
        /order-barrier-late is refused: RELIABLE_WITHDRAWN[\s\S]*order-barrier-late +│ none +│ 0 +│ withdrawn/
      );
    else expect(output).toContain("the barrier row needs MongoDB");
    expect(output).toContain("Every committed order was announced, and no other.");
    expect(code).toBe(0);
  },
  LIMIT_MS
);

it(
  "examples/quick-start is the README's quick start, and runs",
  async () => {
    expect(readFileSync("examples/quick-start/quick-start.js", "utf8").trim()).toBe(codeAfter("## Quick start", "js"));
    const { output, code } = await run("examples/quick-start/quick-start.js");
    expect(output).toMatch(/mail for order 42 sent[\s\S]*is consumed/);
    expect(code).toBe(0);
  },
  LIMIT_MS
);

it(
  "the quick start with its page stays up until Ctrl-C",
  async () => {
    const port = await freePort();
    const node = await startNode("examples/quick-start/quick-start.js", {
      args: ["--dashboard"],
      env: { PORT: `${port}` }
    });
    await until(
      () => node.output,
      output => output.includes(`Look at it, until Ctrl-C: http://127.0.0.1:${port}/`),
      60_000
    );
    const listed = await fetch(`http://127.0.0.1:${port}/api/list`);
    expect(await listed.json()).toMatchObject({ rows: [{ event: "order.created", status: "consumed" }] });
    await node.kill("SIGINT");
    expect(await node.exited).toEqual({ code: 0, signal: null });
  },
  LIMIT_MS
);

it(
  "examples/groups: each group once, by pattern; an instance of a group each",
  async () => {
    const { output, code } = await run("examples/groups/run.js");
    for (const [event, groups] of [
      ["order\\.created", "archive:\\*\\*  bookkeeping:order\\.\\*\\*  mail:order\\.\\*  stock"],
      ["order\\.item\\.returned", "archive:\\*\\*  bookkeeping:order\\.\\*\\*"],
      ["invoice\\.sent", "archive:\\*\\*"],
      ["order\\.paid", "mail:order\\.\\*"]
    ])
      expect(output).toMatch(new RegExp(`│ ${event} +│ ${groups} +│`));
    expect(output).toContain("handled 10 times, by node-1 and node-2.");
    expect(code).toBe(0);
  },
  LIMIT_MS
);

it(
  "examples/manual-compensation: dead, then retried, resolved, discarded",
  async () => {
    const { output, code } = await run("examples/manual-compensation/run.js");
    expect(output.match(/│ 2 of 2 +│ handler in group mail at attempt 2: 550/g)).toHaveLength(3);
    expect(output).toMatch(
      /attempt 2 failed[\s\S]*retry of mail by ann: mailbox added[\s\S]*handled by mail[\s\S]*consumed/
    );
    expect(output).toMatch(
      /order-1 │ consumed +│\n│ order-2 │ consumed +│\n│ order-3 │ resolved +│\n│ order-4 │ discard by ann: a test/
    );
    expect(code).toBe(0);
  },
  LIMIT_MS
);

it(
  "examples/transaction: nothing of what was rolled back, all of what was committed; needs the servers",
  async () => {
    const { output, code } = await run("examples/transaction/run.js");
    if (backend === "real")
      expect(output).toMatch(
        /│ order-1 │ 1 +│ 1 +│ 3 +│\n│ order-2 │ 0 +│ 0 +│ none +│\n[\s\S]*Attempts that stock needed for order-1: 2/
      );
    else expect(output).toContain("set AMQP_URL, MONGO_URL and REDIS_URL");
    expect(code).toBe(backend === "real" ? 0 : 1);
  },
  LIMIT_MS
);

it(
  "examples/encryption: the store has what nobody can read, and a key that comes late is waited for",
  async () => {
    const { output, code } = await run("examples/encryption/run.js");
    expect(output).toMatch(
      /order 1 │ spring │ [\w+/]{20}… │ Ann Smith[\s\S]*order 2 │ summer │ [\w+/]{20}… │ Bob Jones/
    );
    expect(output).toMatch(
      /attempt 1 failed in mail[^\n]*the key 'summer' is not known here[\s\S]*handled by mail[\s\S]*consumed/
    );
    expect(code).toBe(0);
  },
  LIMIT_MS
);

it(
  "examples/sweepers: another process takes the lease of the killed one; needs the servers",
  async () => {
    const { output, code } = await run("examples/sweepers/run.js");
    if (backend === "real") {
      const [, gone, left] =
        /The lease: 0: (reliable-[12])\. This process is killed[\s\S]*The lease: 0: (reliable-[12])\. Consumed: 1, dead: 0\./.exec(
          output
        ) ?? [];
      expect([gone, left].toSorted()).toEqual(["reliable-1", "reliable-2"]);
      expect(output).toContain("Services on app-1: shop, mail.");
    } else expect(output).toContain("set AMQP_URL, MONGO_URL and REDIS_URL");
    expect(code).toBe(backend === "real" ? 0 : 1);
  },
  LIMIT_MS
);
