import type { Change, Doc, Filter } from "../../src/stores/collection";
import { TRANSITIONS, type Status } from "../../src/message/lifecycle";
import { RECEIPT_TYPE } from "../../src/message/envelope";
import { changed, later, match, read, stored } from "./database";
import { groupsOf, ID, PAYLOAD, QUEUES, queueOf, scriptsOf, type Wire } from "./parts";
import { NOW, Theatre, type Answer, type Effect } from "./stage";
import { Pool, textOf } from "./values";
import { added, Broken, put, spend, statusOf, successor, take, type Fault, type Model, type Slot, type State, type Step } from "./world";

const CONFIRMED = { value: { outcome: "confirmed" } };
const UNKNOWN = { value: { outcome: "unknown", reason: "no answer" } };
const ONE = { value: 1 };
const NONE = { value: 0 };
const TIMEOUT = { error: { name: "RequestTimeoutError", message: "no answer", type: "REQUEST_TIMEOUT" } };
/** Names the part of a process that does what the process does not wait for. */
/** Seen by one process only: what it does with itself, and collections that nobody else reads here. */
const OWN = new Set(["ack", "handle", "pause", "inbox", "audit", "parked"]);
const LATE = " late";
const RECEIPTS = [QUEUES.receipts, QUEUES.callbackReceipts];

interface Looked {
	answer: Answer;
	/** The row after the change, where the filter matched. */
	after?: Doc;
}

/** One way an effect may go. */
interface Way {
	state: State;
	answer?: Answer;
	fault?: Fault;
	what?: string;
}

/** The world around the product's code: a store with one row, a broker, processes that die, and time. */
export class Steps {
	readonly theatre: Theatre;
	readonly wires = new Pool<Wire>();
	readonly rows = new Pool<Doc>();
	readonly groups: string[];
	readonly #wanted = new WeakMap<Effect, Effect>();
	readonly #looked = new WeakMap<Effect, Map<number | undefined, Looked>>();
	readonly #texts = new WeakMap<object, string>();
	readonly #later = new Map<number, [string, number][]>();

	constructor(readonly model: Model) {
		this.theatre = new Theatre(scriptsOf(model.scenario));
		this.groups = groupsOf(model.scenario);
	}

	async initial(): Promise<State> {
		const state: State = { inbox: [], business: false, queues: {}, slots: {}, promised: false, handled: [], sent: [], receipted: [], left: this.model.faults };
		await this.#enter(state, "emit", "emit", "", undefined, {});
		return state;
	}

	row(state: State): Doc | undefined {
		return state.row === undefined ? undefined : this.rows.get(state.row);
	}

	/** Everything that may happen next. Throws Broken. */
	async next(state: State): Promise<Step[]> {
		const steps: Step[] = [];
		for (const [name, slot] of Object.entries(state.slots)) {
			// What nobody else can see or hinder comes first: every other order leads to the same.
			const own = this.theatre.acts.get(slot.act).wants.find(({ effect }) => this.#isOwn(state, effect));
			if (!own) continue;
			await this.#perform(state, name, slot, own.index, own.effect, steps);
			await this.#crash(state, name, slot, steps);
			return steps;
		}
		for (const [name, slot] of Object.entries(state.slots)) {
			for (const { index, effect } of this.theatre.acts.get(slot.act).wants) await this.#perform(state, name, slot, index, effect, steps);
			await this.#crash(state, name, slot, steps);
		}
		await this.#begin(state, steps);
		this.#time(state, steps);
		this.#broker(state, steps);
		return steps;
	}

	async #perform(state: State, name: string, slot: Slot, index: number, wanted: Effect, steps: Step[]): Promise<void> {
		const effect = this.#mutated(wanted, name);
		for (const { state: to, answer, fault, what = effect.op } of await this.#ways(state, name, slot, index, effect)) {
			if (fault && !spend(to, fault)) continue;
			if (answer) await this.#advance(to, name, index, answer);
			steps.push({ label: `${name}: ${what}`, state: to, fault: fault !== undefined });
		}
	}

	/** Whether its place among the others' steps makes no difference. */
	#isOwn(state: State, { op, collection, filter = {} }: Effect): boolean {
		if (OWN.has(op) || OWN.has(String(collection))) return true;
		const row = this.row(state);
		if (this.model.mutation || collection !== "messages" || !row) return false;
		// Nothing changes a consumed row; that a row is there stays so; and what it has left behind does not come back.
		const { claim, status, partial } = filter as { claim?: string; status?: string; partial?: true };
		const settled = row.status === "consumed" || op === "db.insert";
		return settled || (op === "db.update" && ((typeof claim === "string" && claim !== row.claim) || (status === "intended" && row.status !== status) || (partial === true && !row.partial)));
	}

	#mutated(wanted: Effect, name: string): Effect {
		const { want } = this.model.mutation ?? {};
		if (!want) return wanted;
		const known = this.#wanted.get(wanted) ?? want(wanted, name);
		this.#wanted.set(wanted, known);
		return known;
	}

	/** The text of what comes again as the same object. */
	#textOf(value: object): string {
		const known = this.#texts.get(value) ?? textOf(value);
		this.#texts.set(value, known);
		return known;
	}

	async #advance(state: State, name: string, index: number, answer: Answer): Promise<void> {
		const slot = state.slots[name];
		if (!slot) return;
		const { theatre } = this;
		const number = theatre.answers.id(answer);
		const act = theatre.advanced(slot.act, index, number) ?? (await theatre.advance(slot.act, index, number));
		state.slots[name] = { ...slot, act };
		await this.#settled(state, name);
	}

	/** Notes count at once; who has come to the end leaves. */
	async #settled(state: State, name: string): Promise<void> {
		const slot = state.slots[name] as Slot;
		const { wants, ended } = this.theatre.acts.get(slot.act);
		const note = wants.find(({ effect }) => effect.op === "note");
		if (note) {
			state.promised = true;
			return this.#advance(state, name, note.index, {});
		}
		const { eager } = this.model.mutation ?? {};
		for (const { index, effect } of wants) {
			const answer = eager?.(effect, name);
			if (answer === undefined || name.endsWith(LATE)) continue;
			// What it does happens in a slot of its own, which is lost with its process.
			await this.#enter(state, name + LATE, "late", textOf(effect), effect, {});
			return this.#advance(state, name, index, { value: answer });
		}
		if (!ended || wants.length) return;
		delete state.slots[name];
		if (slot.caller) await this.#advance(state, slot.caller[0], slot.caller[1], "error" in ended ? { error: ended.error } : { value: ended.value });
	}

	async #enter(state: State, name: string, script: string, key: string, part: unknown, rest: Omit<Slot, "act">): Promise<void> {
		const { theatre } = this;
		state.slots[name] = { act: theatre.begun(script, key) ?? (await theatre.begin(script, key, part)), ...rest };
		await this.#settled(state, name);
	}

	async #ways(state: State, name: string, slot: Slot, index: number, effect: Effect): Promise<Way[]> {
		const same = (value: unknown): Way[] => [{ state: successor(state), answer: { value } }];
		const { op } = effect;
		if (op.startsWith("db.")) return this.#database(state, name, effect);
		if (op === "publish") return this.#publish(state, name, slot, effect);
		if (op === "pause") return same(undefined);
		if (op === "depth") return same({ ready: (state.queues[effect.queue as string] ?? []).length, consumers: 1 });
		if (op === "ack") return this.#ack(state, name, slot);
		if (op === "handle") return this.#handle(state, effect.group as string);
		if (op === "barrier" || op === "commit") return this.#business(state, op);
		if (op === "call") return this.#call(state, name, slot, index, effect);
		throw new Error(`The world does not know '${op}'.`);
	}

	#database(state: State, name: string, effect: Effect): Way[] {
		const { op, collection, ...details } = effect;
		const to = successor(state);
		const way = (value: unknown, what: string): Way[] => [{ state: to, answer: { value }, what: `${what} ${collection as string}` }];
		if (collection === "inbox") {
			const [, group] = ["", JSON.parse((details.docs as Doc[] | undefined)?.[0]?._id ?? (details.filter as { _id: { $in: string[] } })._id.$in[0] as string)[0] as string];
			if (op === "db.insert") to.inbox = added(state.inbox, group);
			return op === "db.insert" ? way([!state.inbox.includes(group)], "insert into") : way(state.inbox.includes(group) ? [{ _id: JSON.stringify([group, ID]) }] : [], "find in");
		}
		if (collection === "barriers") {
			if (op === "db.find") return way(state.barrier ? [{ _id: ID, state: state.barrier }] : [], "find in");
			if (op === "db.remove") {
				if (state.barrier === "withdrawn") to.barrier = undefined;
				return way(1, "remove from");
			}
			// It waits for a transaction that has written the same key.
			if (state.transaction && this.model.scenario.intent === "barrier") return [];
			if (details.skipped) return way([true], "skip");
			to.barrier ??= "withdrawn";
			return way([!state.barrier], "insert into");
		}
		if (collection !== "messages") return way(op === "db.insert" ? [true] : [], op);
		const row = this.row(state);
		if (op === "db.insert") {
			if (!row) this.#write(to, name, undefined, stored((details.docs as Doc[])[0] as Doc));
			return way([!row], "insert into");
		}
		const { answer, after } = this.#look(effect, state.row);
		if (op === "db.find") return [{ state: to, answer, what: "find in messages" }];
		if (after) this.#write(to, name, row, after, details.change as Change);
		return [{ state: to, answer, what: after ? "update messages" : "do not update messages" }];
	}

	/** What a filter finds in a row, and what a change makes of it. */
	#look(effect: Effect, number: number | undefined): Looked {
		const known = this.#looked.get(effect) ?? new Map<number | undefined, Looked>();
		this.#looked.set(effect, known);
		let looked = known.get(number);
		if (!looked) {
			const row = number === undefined ? undefined : this.rows.get(number);
			const found = row !== undefined && match(row, effect.filter as Filter);
			if (effect.op === "db.find") looked = { answer: { value: found ? [read(row)] : [] } };
			else looked = { answer: found ? ONE : NONE, ...(found && { after: changed(row, effect.change as Change) }) };
			known.set(number, looked);
		}
		return looked;
	}

	#write(to: State, name: string, before: Doc | undefined, after: Doc, change?: Change): void {
		const [was, is] = [statusOf(before), statusOf(after)];
		if (before && was !== is && !TRANSITIONS[was as Status].includes(is as Status)) throw new Broken(`law 6: ${was} → ${is} is no legal transition`);
		const failures = after.failures as string[];
		if (new Set(failures).size < failures.length) throw new Broken(`law 5: a failure was counted twice: ${failures.join(", ")}`);
		const expected = this.groups.filter(group => !to.handled.includes(group));
		if (is === "consumed" && expected.length) throw new Broken(`law 3: consumed before ${expected.join(", ")} handled it`);
		if (is === "withdrawn" && to.business) throw new Broken("intent: withdrawn, though its business write is committed");
		to.row = this.rows.id(after);
		const slot = to.slots[name] as Slot;
		if (change?.$set?.claim) to.slots[name] = { ...slot, answered: Object.keys(after.receipts as object) };
	}

	#publish(state: State, name: string, slot: Slot, effect: Effect): Way[] {
		const { to, messageId, type, headers, body } = effect as unknown as { to: { event: string } | { queue: string } } & Wire;
		const groups = "event" in to ? this.groups : this.groups.filter(group => queueOf(group) === to.queue);
		const queues = "event" in to ? this.groups.map(queueOf) : [to.queue];
		const what = `publish to ${"event" in to ? "all groups" : to.queue.replace("reliable.", "")}`;
		if (groups.length) this.#announced(state, name, slot, groups, Number(headers["x-reliable-attempt"]));
		const arrived = (): State => {
			const next = successor(state);
			for (const queue of queues) put(next, queue, this.wires.id({ queue, messageId, type, headers, body }));
			if (type === RECEIPT_TYPE) next.receipted = added(state.receipted, name);
			if (groups.length && name !== "emit") next.sent = [...state.sent, ...groups.map(group => `${group} ${String(headers["x-reliable-attempt"])}`)].sort();
			return next;
		};
		return [
			{ state: arrived(), answer: CONFIRMED, what },
			{ state: arrived(), answer: UNKNOWN, fault: "lose", what: `${what}, its confirm is lost` },
			{ state: successor(state), answer: effect.trusted ? CONFIRMED : UNKNOWN, fault: "lose", what: `${what}, lost` }
		];
	}

	/** A message is about to reach groups. */
	#announced(state: State, name: string, slot: Slot, groups: string[], attempt: number): void {
		if (this.model.scenario.intent && !state.business) throw new Broken("intent: announced, though its business write is not committed");
		if (name === "emit") return;
		const again = groups.find(group => slot.answered?.includes(group));
		if (again) throw new Broken(`law 9: sent to ${again} again, which had answered when the row was claimed`);
		const faultless = (Object.keys(state.left) as Fault[]).every(fault => fault === "fail" || fault === "purge" || state.left[fault] === this.model.faults[fault]);
		const twice = groups.find(group => state.sent.includes(`${group} ${attempt}`));
		if (faultless && twice) throw new Broken(`law 7: attempt ${attempt} was sent to ${twice} twice, though nothing went wrong`);
	}

	#ack(state: State, name: string, slot: Slot): Way[] {
		const [queue] = slot.held ?? [""];
		const group = this.groups.find(known => queueOf(known) === queue);
		if (group && !state.receipted.includes(name)) throw new Broken(`law 3: the delivery of ${group} was acked before its receipt was confirmed`);
		const next = successor(state);
		next.slots[name] = { ...slot, held: undefined };
		if (RECEIPTS.includes(queue)) this.#recorded(state, slot);
		return [{ state: next, answer: {}, what: `ack of ${queue.replace("reliable.", "")}` }];
	}

	/** A receipt is about to be forgotten by the broker. */
	#recorded(state: State, slot: Slot): void {
		const { type, body } = this.wires.get((slot.held as [string, number])[1]);
		if (type !== RECEIPT_TYPE) return;
		const { group, items } = JSON.parse(body.toString()) as { group: string; items: { outcome: string }[] };
		const receipts = this.row(state)?.receipts as object | undefined;
		if (items[0]?.outcome === "handled" && !(receipts && group in receipts)) throw new Broken(`law 2: a receipt of ${group} was acked and is nowhere`);
	}

	#handle(state: State, group: string): Way[] {
		const done = successor(state);
		done.handled = added(state.handled, group);
		return [
			{ state: done, answer: { value: "handled" }, what: "handled" },
			{ state: successor(state), answer: { value: "failed" }, fault: "fail", what: "failed" }
		];
	}

	#business(state: State, op: string): Way[] {
		const to = successor(state);
		const way = (what: string, answer: Answer = {}): Way => ({ state: to, answer, what });
		if (op === "barrier") {
			if (state.barrier) return [way("barrier refused", { error: { name: "ReliableError", message: "withdrawn", type: "RELIABLE_WITHDRAWN" } })];
			to.transaction = "open";
			return [way("barrier")];
		}
		this.#committed(to);
		const lost: Way = { state: successor(to), answer: { error: { name: "MongoNetworkError", message: "connection lost" } }, fault: "commit", what: "commit, its answer is lost" };
		const refused: Way = { state: { ...successor(state), transaction: undefined }, answer: { error: { name: "Error", message: "the business write is refused" } }, fault: "commit", what: "commit refused" };
		return [way("commit"), lost, refused];
	}

	#committed(to: State): void {
		if (statusOf(this.row(to)) === "withdrawn") throw new Broken("intent: its business write was committed after it was withdrawn");
		if (to.transaction) to.barrier = "committed";
		to.transaction = undefined;
		to.business = true;
	}

	async #call(state: State, name: string, slot: Slot, index: number, { action, params }: Effect): Promise<Way[]> {
		if (action === "orders.source") {
			const value = state.business ? PAYLOAD : state.slots.emit && this.model.scenario.intent === "source" ? "unknown" : null;
			return [{ state: successor(state), answer: { value }, what: "asks the source" }];
		}
		const rpc = `rpc of ${name}`;
		const under = state.slots[rpc];
		// One at a time: while it is under way, its caller waits or gives up.
		if (under && !under.caller) return [];
		if (under) {
			const late = successor(state);
			late.slots[rpc] = { ...under, caller: undefined };
			return [{ state: late, answer: TIMEOUT, fault: "timeout", what: "RPC without an answer" }];
		}
		const begun = successor(state);
		await this.#enter(begun, rpc, "answer", this.#textOf(params as object), params, { caller: [name, index], answered: slot.answered });
		return [{ state: begun, what: "RPC" }];
	}

	async #crash(state: State, name: string, slot: Slot, steps: Step[]): Promise<void> {
		const to = successor(state);
		if (name.endsWith(LATE) || !spend(to, "crash")) return;
		delete to.slots[name];
		delete to.slots[name + LATE];
		if (slot.held) put(to, ...slot.held);
		const asked = to.slots[`rpc of ${name}`];
		if (asked) to.slots[`rpc of ${name}`] = { ...asked, caller: undefined };
		if (slot.caller) await this.#advance(to, ...slot.caller, TIMEOUT);
		if (name === "emit" && state.transaction) to.transaction = this.theatre.acts.get(slot.act).wants.some(({ effect }) => effect.op === "commit") ? "committing" : "orphaned";
		steps.push({ label: `${name} dies`, state: to, fault: true });
	}

	async #begin(state: State, steps: Step[]): Promise<void> {
		const start = async (name: string, script: string, part: unknown, from?: [string, number]) => {
			if (state.slots[name]) return;
			const to = successor(state);
			const early = from?.[0] === QUEUES.checks && isBusy(state);
			if (early && !spend(to, "slow")) return;
			if (from) take(to, ...from);
			await this.#enter(to, name, script, `${name} ${from?.[1]}`, part, { held: from });
			steps.push({ label: `${name} ${from ? `takes from ${from[0].replace("reliable.", "")}` : "begins a pass"}`, state: to, fault: early });
		};
		for (const [queue, wires] of Object.entries(state.queues)) {
			for (const wire of new Set(wires)) {
				const group = this.groups.find(known => queueOf(known) === queue);
				const part = { wire: this.wires.get(wire) };
				if (group) await start(group, "handle", { group, ...part }, [queue, wire]);
				if (RECEIPTS.includes(queue)) for (let n = 1; n <= (this.model.trackers ?? 1); n++) await start(`tracker-${n}`, "track", { nodeID: `tracker-${n}`, ...part }, [queue, wire]);
				if (queue === QUEUES.checks) for (let n = 1; n <= (this.model.checkers ?? 1); n++) await start(`checker-${n}`, "track", { nodeID: `checker-${n}`, ...part }, [queue, wire]);
			}
		}
		const row = this.row(state);
		if (row?.open && row.dueAt && (row.dueAt as Date) < NOW) for (let n = 1; n <= (this.model.sweepers ?? 1); n++) await start(`sweeper-${n}`, "pass", { nodeID: `sweeper-${n}` });
	}

	#time(state: State, steps: Step[]): void {
		const row = this.row(state);
		if (!row?.open) return;
		const busy = isBusy(state);
		const now = state.row as number;
		const rows = this.#later.get(now) ?? later(row).map(([what, doc]): [string, number] => [what, this.rows.id(doc)]);
		this.#later.set(now, rows);
		for (const [what, number] of rows) {
			if (number === now) continue;
			const to = successor(state);
			to.row = number;
			if (busy && !spend(to, "slow")) continue;
			steps.push({ label: `time: ${what}`, state: to, fault: busy });
		}
	}

	#broker(state: State, steps: Step[]): void {
		for (const [queue, wires] of Object.entries(state.queues)) {
			for (const wire of new Set(wires)) {
				const twice = successor(state);
				put(twice, queue, wire);
				if (spend(twice, "duplicate")) steps.push({ label: `broker: ${queue} has one twice`, state: twice, fault: true });
				const gone = successor(state);
				take(gone, queue, wire);
				// A group's queue may be purged at any time; a check only when a row stands for it.
				if ((this.groups.some(group => queueOf(group) === queue) || (queue === QUEUES.checks && state.row !== undefined)) && spend(gone, "purge")) steps.push({ label: `broker: ${queue} loses one`, state: gone, fault: true });
			}
		}
		if (state.transaction && state.transaction !== "open") {
			const aborted = successor(state);
			aborted.transaction = undefined;
			steps.push({ label: "business: the orphaned transaction is aborted", state: aborted, fault: false });
			if (state.transaction === "committing") {
				const committed = successor(state);
				this.#committed(committed);
				steps.push({ label: "business: the orphaned commit arrives", state: committed, fault: true });
			}
		}
	}
}

/** Delays are longer than anything takes but a backlog of events; whoever is still at it when they are over is slow. */
function isBusy({ slots, queues }: State): boolean {
	return Object.keys(slots).length > 0 || RECEIPTS.some(queue => queues[queue]?.length);
}
