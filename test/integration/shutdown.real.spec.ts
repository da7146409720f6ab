import type { Context } from "moleculer";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { startNode } from "../support/child";

it("SIGTERM under load ends in time, with exit code 0, and nothing promised is lost", { timeout: 90_000 }, async () => {
	const { namespace, node, mixin, options } = cluster();
	const drainTimeoutMs = 5000;
	const busy = await startNode("test/support/busy-node.ts", { env: { NODE: JSON.stringify({ namespace, options: options({ drainTimeoutMs, receiptTimeoutMs: 2000 }) }) } });
	await busy.next("started");
	// Well under way: a few hundred are handled, more are in every stage between.
	const seen: number[] = [];
	await until(() => seen.push(...busy.all<number>("handled")), count => count > 300, 30_000);
	const told = performance.now();
	await busy.kill("SIGTERM");
	expect(await busy.exited).toEqual({ code: 0, signal: null });
	expect(performance.now() - told).toBeLessThan(drainTimeoutMs + 10_000);
	expect(busy.output).not.toContain("unhandled rejection");
	expect(new Set(busy.all("refused"))).toEqual(new Set(["RELIABLE_STOPPED"]));

	const promised = busy.all<number>("promised");
	const handled = new Set([...seen, ...busy.all<number>("handled")]);
	expect(promised.length).toBeGreaterThan(300);
	await node("heir", [{ name: "stock", mixins: [mixin({ receiptTimeoutMs: 2000 })], events: { "order.created": { reliable: true, handler: (ctx: Context<{ n: number }>) => void handled.add(ctx.params.n) } } }]);
	await until(() => promised.filter(n => !handled.has(n)).length, missing => missing === 0, 30_000);
});
