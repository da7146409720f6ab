import type { ServiceBroker } from "moleculer";
import { MongoClient } from "mongodb";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { bucketName } from "../../src/couriers/amqp/topology";
import { prefixOf, systemQueues } from "../../src/message/pattern";
import { cluster, until, type Cluster } from "../support/brokers";
import { startNode, type TestNode } from "../support/child";
import { courierOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer } from "../support/services";
import { DATABASE, shop, type Bond, type ShopNode } from "../support/shop";

const preload = path.resolve("test/support/crash-preload.cjs");
const DELAYS = [500, 1000, 2000, 4000];
/** Processes at once; they mostly start up, which takes a core. */
const AT_ONCE = 3;
/** The older line runs the same code but for its Moleculer: every fourth point will do. */
const EVERY = process.env["MOLECULER_LINE"] === "0.14" ? 4 : 1;

interface Shop {
	made: Cluster;
	start(id: string, env?: Record<string, string>): Promise<TestNode>;
	/** What lives on after the crash: a new instance of the producer, a consumer, a node with callback service and sweeper. */
	home(): Promise<ServiceBroker>;
	handled: string[];
	orders(): Promise<string[]>;
}

async function newShop(strategy: "outbox" | "callback", bond: Bond): Promise<Shop> {
	const made = cluster();
	const { namespace } = made;
	const { mongo } = urls();
	const handled: string[] = [];
	const options = made.options({ strategy, checkDelaysMs: DELAYS, confirmTimeoutMs: 1000 });
	const stock = () => consumer(made.mixin({ confirmTimeoutMs: 1000, mongo: undefined }), "stock", "order.created", ctx => void handled.push((ctx as { params: { id: string } }).params.id));
	const node = async (nodeID: string) => {
		const { schema, client } = shop({ namespace, mongo, options });
		await client.connect();
		return made.node(nodeID, [schema, stock()]);
	};
	// The group is known and its queue is there, and then nobody is home.
	const before = await node("before");
	await until(async () => (await storeOf(before).subscriptions()).length === 1);
	await before.stop();
	return {
		made,
		handled,
		start: (id, env) => {
			const spec: ShopNode = { namespace, mongo, id, bond, options: { ...options, service: false } };
			return startNode("test/support/shop-node.ts", { env: { SHOP: JSON.stringify(spec), NODE_OPTIONS: `--require ${preload}`, ...env } });
		},
		home: () => node("home"),
		async orders() {
			const client = await new MongoClient(mongo).connect();
			const rows = await client.db(DATABASE).collection(`${prefixOf(namespace)}.orders`).find().toArray();
			await client.close();
			return rows.map(({ _id }) => String(_id)).sort();
		}
	};
}

async function inBatches<T, R>(items: T[], work: (item: T) => Promise<R>): Promise<R[]> {
	const left = [...items.entries()];
	const results: R[] = [];
	const worker = async () => {
		for (let next = left.shift(); next; next = left.shift()) results[next[0]] = await work(next[1]);
	};
	await Promise.all(Array.from({ length: AT_ONCE }, worker));
	return results;
}

/** Nothing is open in the store, and no check is on its way. */
async function quiet(home: ServiceBroker): Promise<void> {
	const { checks } = systemQueues(home.namespace);
	const queues = [checks, ...DELAYS.map(delay => bucketName(checks, delay))];
	await until(
		async () => {
			const { byStatus } = await storeOf(home).stats();
			const depths = await Promise.all(queues.map(queue => courierOf(home).depth(queue)));
			return { ...byStatus, checks: depths.reduce((sum, depth) => sum + (depth?.ready ?? 0), 0) };
		},
		({ intended, pending, published, checks: under }) => intended + pending + published + under === 0,
		60_000
	);
}

const BONDS: [strategy: "outbox" | "callback", bond: Bond][] = [
	["outbox", "plain"],
	["outbox", "session"],
	["outbox", "barrier"],
	["outbox", "source"],
	["callback", "plain"],
	["callback", "barrier"],
	["callback", "source"]
];

describe("a producer that is killed between any two steps", () => {
	it.each(BONDS)("of an emit of strategy %s, bond '%s': what was committed is consumed, and nothing else", async (strategy, bond) => {
		const { start, home, handled, orders } = await newShop(strategy, bond);
		const unharmed = await start("unharmed");
		const points = await unharmed.next<string[]>("points");
		const chosen = points.map((what, i) => ({ what, at: i + 1, id: `${String(i + 1).padStart(2, "0")} ${what}` })).filter(({ at }) => at % EVERY === 0);
		const promised = ["unharmed"];
		await inBatches(chosen, async ({ at, id }) => {
			const node = await start(id, { CRASH_AT: String(at) });
			const { signal, code } = await node.exited;
			const kept = node.all("promised").length > 0;
			// What comes after the promise (recording the publish) may not be reached before the process has done its work and ends.
			expect(signal ?? (kept && code === 0 ? "SIGKILL" : code), `${id}\n${node.output}`).toBe("SIGKILL");
			if (kept) promised.push(id);
		});
		const broker = await home();
		const committed = await orders();
		await until(() => committed, ids => ids.filter(id => promised.includes(id)).every(id => handled.includes(id)), 40_000);
		await quiet(broker);
		console.log(`${strategy}, ${bond}: ${chosen.length} crash points of ${points.length}, ${committed.length - 1} committed, ${promised.length - 1} promised, ${handled.length - 1} handled\n  ${points.join("\n  ")}`);

		expect(promised.filter(id => !handled.includes(id))).toEqual([]);
		// Without a bond between the two, an order may be stored and its emit not begun.
		if (bond === "plain") expect(handled.filter(id => !committed.includes(id))).toEqual([]);
		else expect([...handled].sort()).toEqual(committed);
		expect(new Set(handled).size).toBe(handled.length);
		expect((await storeOf(broker).stats()).byStatus).toMatchObject({ intended: 0, pending: 0, published: 0, dead: 0 });
	}, 150_000);
});
