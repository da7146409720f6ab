import type { Options } from "amqplib";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { atBroker } from "../support/rabbitmq";
import { consumer, errorOf, oneNode, reaches, story, subscribed } from "../support/services";

interface ParkedRow {
	queue: string;
	reason: string;
	bytes: number;
	body: string;
}

const GOOD = { "x-reliable-version": 1, "x-reliable-attempt": 1, "x-reliable-strategy": "outbox", "x-reliable-producer": "elsewhere" };

/** One node that emits, consumes `order.created` in group `stock`, and tracks. */
async function started() {
	const made = cluster();
	const seen: unknown[] = [];
	const { broker, emit } = await oneNode(made, [consumer(made.mixin({ maxInFlight: 2 }), "stock", "order.created", ctx => void seen.push(ctx.params))]);
	await subscribed(broker, 1);
	const queue = `${made.namespace}.reliable.on.stock/order.created`;
	const receipts = `${made.namespace}.reliable.receipts.outbox`;
	const announcements = `${made.namespace}.reliable.announcements`;
	const send = (to: string, body: Buffer | string | object, properties: Options.Publish = {}) =>
		atBroker(
			channel =>
				new Promise<void>((resolve, reject) => {
					const bytes = Buffer.isBuffer(body) ? body : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
					channel.sendToQueue(to, bytes, { persistent: true, ...properties });
					(channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms().then(resolve, reject);
				})
		);
	const parked = (count: number) => until(() => broker.call<{ rows: ParkedRow[] }, object>("reliable.parked", { pageSize: 100 }), ({ rows }) => rows.length === count).then(({ rows }) => rows);
	return { broker, emit, seen, send, parked, queue, receipts, announcements };
}

it("parks what it cannot read with its raw bytes, counts it, and goes on", async () => {
	const { broker, emit, seen, send, parked, queue, receipts } = await started();
	const good = { ...GOOD, "x-reliable-receipt": receipts };
	const bad: [reason: string, body: Buffer | string | object, properties: Options.Publish][] = [
		["foreign message: no x-reliable-version header", "hello", {}],
		["foreign message: no x-reliable-version header", Buffer.from([0, 255, 254, 1]), { headers: { something: "else", when: { "!": "timestamp", value: 1 } } }],
		["no messageId", {}, { type: "order.created", headers: good }],
		["no type (event name)", {}, { messageId: "m", headers: good }],
		["unknown x-reliable-version 2", {}, { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-version": 2 } }],
		["no x-reliable-receipt header", {}, { messageId: "m", type: "order.created", headers: GOOD }],
		['bad x-reliable-attempt "first"', {}, { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-attempt": "first" } }],
		["body is not JSON", "{not json", { messageId: "m", type: "order.created", headers: good }],
		["body is not JSON", "", { messageId: "m", type: "order.created", headers: good }],
		["x-reliable-meta is not JSON", {}, { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-meta": "{" } }],
		["x-reliable-meta is not an object", {}, { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-meta": "[1]" } }],
		["foreign message: no x-reliable-version header", "giant", { headers: { giant: "x".repeat(64_000) } }],
		["foreign message: no x-reliable-version header", "giant, of more bytes than characters", { headers: { giant: "€".repeat(21_800) } }],
		["foreign message: no x-reliable-version header", "many", { headers: Object.fromEntries(Array.from({ length: 1400 }, (_, n) => [`header-${n}`, "x".repeat(20)])) }],
		["foreign message: no x-reliable-version header", Buffer.alloc(3 * 1024 * 1024, 7), {}]
	];
	for (const [, body, properties] of bad) await send(queue, body, properties);
	const rows = await parked(bad.length);
	expect(rows.map(({ reason }) => reason).sort()).toEqual(bad.map(([reason]) => reason).sort());
	expect(rows.every(row => row.queue === queue)).toBe(true);
	expect(rows.map(({ bytes }) => bytes)).toContain(3 * 1024 * 1024);
	expect(rows.map(({ body }) => body)).toEqual(expect.arrayContaining(["hello", "{not json", "giant"]));

	// The consumer holds two at a time: had it kept one of them, nothing would pass any more.
	await Promise.all([1, 2, 3, 4].map(n => emit("order.created", { n }, { waitFor: "consumed" })));
	expect(seen).toHaveLength(4);
	const stats = await broker.call<{ parkedMessages: number; node: Record<string, number> }, object>("reliable.stats", {});
	expect(stats).toMatchObject({ parkedMessages: bad.length });
	expect(stats.node.parked).toBe(bad.length);
});

it("takes a message of a service in another language, and answers to the queue it names", async () => {
	const { seen, send, parked, queue, receipts } = await started();
	await send(queue, { from: "elsewhere" }, { messageId: "theirs-1", type: "order.created", headers: { ...GOOD, "x-reliable-receipt": receipts } });
	await until(() => seen.length === 1);
	expect(seen).toEqual([{ from: "elsewhere" }]);
	// Its receipt reaches our tracker, which knows no such message.
	expect((await parked(1))[0]).toMatchObject({ queue: receipts, reason: "receipt for an id that is not in the store: theirs-1" });
});

it("parks receipts it can do nothing with, and goes on tracking", async () => {
	const { emit, send, parked, receipts, broker } = await started();
	const item = { id: "nobody", outcome: "handled", attempt: 1, durationMs: 5 };
	const bad: (Buffer | string | object)[] = [
		"garbage",
		Buffer.from([0, 1, 2, 255]),
		"",
		"null",
		"[]",
		{ v: 2, group: "stock", nodeID: "x", items: [item] },
		{ v: 1, nodeID: "x", items: [item] },
		{ v: 1, group: "", nodeID: "x", items: [item] },
		{ v: 1, group: "stock", nodeID: "x", items: "all" },
		{ v: 1, group: "stock", nodeID: "x", items: [null] },
		{ v: 1, group: "stock", nodeID: "x", items: [{ ...item, outcome: "eaten" }] },
		{ v: 1, group: "stock", nodeID: "x", items: [{ ...item, attempt: 0 }] },
		{ v: 1, group: "stock", nodeID: "x", items: [{ ...item, error: "text" }] },
		{ v: 1, group: "stock", nodeID: "x", items: [item] },
		{ v: 1, group: "stock", nodeID: "x", items: [{ ...item, id: "nobody-2", outcome: "failed", error: { name: "E", message: "m" } }] },
		{ v: 1, group: "stock", nodeID: "x", items: [{ ...item, id: "$where" }] }
	];
	// Whoever writes garbage may give all of it the same id.
	for (const body of bad) await send(receipts, body, { messageId: "the same" });
	const rows = await parked(bad.length);
	expect(rows.every(row => row.queue === receipts)).toBe(true);
	expect(rows.filter(({ reason }) => reason.includes("not in the store")).map(({ reason }) => reason.split(": ")[1]).sort()).toEqual(["$where", "nobody", "nobody-2"]);
	expect((await emit("order.created", {}, { waitFor: "consumed" })).status).toBe("consumed");
	expect(await broker.call("reliable.stats", {})).toMatchObject({ parkedMessages: bad.length, node: { parked: bad.length } });
});

it("the receipt of a group that owes none changes nothing for those that do", async () => {
	const made = cluster();
	let open = () => undefined as void;
	const gate = new Promise<void>(resolve => (open = resolve));
	const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => gate)]);
	await subscribed(broker, 1);
	const { id } = await emit("order.created", {}, { waitFor: "confirmed" });
	const names = ["ghost", "a.b$c/ü", "__proto__", "constructor", "x".repeat(300)];
	for (const group of names) {
		await atBroker(async channel => {
			channel.sendToQueue(`${made.namespace}.reliable.receipts.outbox`, Buffer.from(JSON.stringify({ v: 1, group, nodeID: "x", items: [{ id, attempt: 1, durationMs: 1, outcome: "handled" }] })));
			await (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
		});
	}
	await until(() => story(broker, id), ({ handled }) => handled.split(", ").length === names.length);
	expect(await story(broker, id)).toMatchObject({ status: "published", waiting: "stock" });
	open();
	await reaches(broker, id, "consumed");
});

it("parks announcements it cannot read, and does not learn from them", async () => {
	const { broker, send, parked, announcements } = await started();
	const bad = ["garbage", "null", { v: 9 }, { v: 1, pattern: "a", group: "b", queue: "", nodeID: "c", service: "d" }, { v: 1, pattern: 5, group: "b", queue: "q", nodeID: "c", service: "d" }];
	for (const body of bad) await send(announcements, body);
	expect((await parked(bad.length)).every(row => row.queue === announcements)).toBe(true);
	expect(await subscribed(broker, 1)).toHaveLength(1);
});

it.each([
	["a classic queue", { "x-queue-type": "classic" }],
	["another delivery limit", { "x-queue-type": "quorum", "x-delivery-limit": 3 }]
])("%s in the place of a group's queue is RELIABLE_QUEUE_MISMATCH, naming it and the way out", async (_, args) => {
	const made = cluster();
	const queue = `${made.namespace}.reliable.on.stock/order.created`;
	await atBroker(channel => channel.assertQueue(queue, { durable: true, arguments: args }));
	try {
		const error = await errorOf(oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => undefined)]));
		expect(error).toMatchObject({ type: "RELIABLE_QUEUE_MISMATCH", retryable: false, data: { queue } });
		expect(error.message).toContain(queue);
		expect(error.message).toMatch(/To migrate: .*delete/);
	} finally {
		await atBroker(channel => channel.deleteQueue(queue));
	}
});
