import { expect, inject, it } from "vitest";
import { backend } from "../support/brokers";
import { startNode } from "../support/child";

const LIMIT_MS = 120_000;

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

it.each(STRATEGIES)("examples/strategies with %s: %i store writes and %i publishes on the hot path, nothing missing", async (strategy, writes, publishes) => {
	const { output, code } = await run("examples/strategies/run.js", [strategy]);

	expect(output).toMatch(new RegExp(`${strategy === "outbox" ? "stored" : "emitted"} by orders for[^]*attempt 1 failed in mail.*the mail server is down[^]*handled by mail.*attempt 2[^]*consumed`));
	expect(output).toMatch(new RegExp(`before it resolved +│ ${writes} +│ ${publishes} `));
	expect(output.match(/│ 20 +│ none +│ 0 /g)).toHaveLength(2);
	expect(output).toContain("Every order is accounted for.");
	expect(code).toBe(0);
}, LIMIT_MS);

it.each(backend === "real" ? (["outbox", "callback"] as const) : (["outbox"] as const))("examples/intent-first with %s: what was committed is announced, and nothing else", async strategy => {
	const { output, code } = await run("examples/intent-first/run.js", [strategy]);

	const proofs = backend === "real" ? ["source", "barrier"] : ["source"];
	expect(output.match(/ended \(SIGKILL\)/g)).toHaveLength(2 * proofs.length);
	for (const proof of proofs) {
		expect(output).toMatch(new RegExp(`order-${proof}-before +│ none +│ 0 +│ withdrawn`));
		expect(output).toMatch(new RegExp(`order-${proof}-after +│ committed +│ [1-9]\\d* +│ consumed`));
	}
	expect(output).toMatch(/orders\.find is asked for order-source-before: null[^]*orders\.find is asked for order-source-after: here it is/);
	if (backend === "real") expect(output).toMatch(/order-barrier-late is refused: RELIABLE_WITHDRAWN[^]*order-barrier-late +│ none +│ 0 +│ withdrawn/);
	else expect(output).toContain("the barrier row needs MongoDB");
	expect(output).toContain("Every committed order was announced, and no other.");
	expect(code).toBe(0);
}, LIMIT_MS);
