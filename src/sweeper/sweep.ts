import { randomUUID } from "node:crypto";
import { backoffMs } from "../backoff";
import type { Courier, PublishResult, QueueDepth } from "../couriers/courier";
import { reasonOf } from "../errors";
import type { Logger } from "../logger";
import { currentAttempt, judgeFailure } from "../message/budget";
import { ANY_GROUP, type Message } from "../message/message";
import type { Metrics } from "../metrics";
import type { Publisher } from "../publisher";
import type { Registry } from "../registry";
import type { FailedRecord, RescheduleRecord, Store } from "../stores/store";
import { planSweep, reachesAllAtOnce, silentGroups, type Plan } from "./plan";

export interface SweepParts {
	store: Store;
	courier: Courier;
	publisher: Publisher;
	registry: Registry;
	metrics: Metrics;
	logger: Logger;
	nodeID: string;
	pageSize: number;
	claimMs: number;
	/** Writes failures and tells of messages that became dead. */
	recordFailures(records: FailedRecord[]): Promise<void>;
}

export interface SweepScope {
	/** undefined = all. */
	buckets?: number[];
	/** Fence token, for the claim id. */
	token: string;
	/** Asked before each page: false = the lease is gone. */
	stillHeld(): boolean;
}

export interface SweepCounts {
	pages: number;
	/** Due messages taken. */
	claimed: number;
	/** Publishes by outcome. */
	confirmed: number;
	returned: number;
	nacked: number;
	unknown: number;
	/** Groups left alone: backlog in their queue, or nobody home. */
	waiting: number;
	/** Attempts that ended in silence. */
	silent: number;
	/** Claims that another sweeper had taken over before this one was done. */
	lost: number;
	/** Why the pass ended early. */
	stopped?: "broker not ready" | "lease lost";
}

/** One pass over what is due, page by page. The loop, the REPL action and the tests all call this. */
export async function sweep(parts: SweepParts, scope: SweepScope): Promise<SweepCounts> {
	const counts: SweepCounts = { pages: 0, claimed: 0, confirmed: 0, returned: 0, nacked: 0, unknown: 0, waiting: 0, silent: 0, lost: 0 };
	await parts.registry.refresh();
	const depths = new Map<string, Promise<QueueDepth | undefined | "unseen">>();
	for (;;) {
		// Claiming what cannot be published would only hide it until the claim runs out.
		if (!parts.courier.ready) return { ...counts, stopped: "broker not ready" };
		if (!scope.stillHeld()) return { ...counts, stopped: "lease lost" };
		const now = new Date();
		const claim = `${parts.nodeID}#${scope.token}#${randomUUID()}`;
		const page = await parts.store.claim({ now, until: new Date(now.getTime() + parts.claimMs), claim, limit: parts.pageSize, buckets: scope.buckets });
		if (!page.length) return counts;
		counts.pages++;
		counts.claimed += page.length;
		await sweepPage(parts, page, claim, now, depths, counts);
		if (page.length < parts.pageSize) return counts;
	}
}

async function sweepPage(parts: SweepParts, page: Message[], claim: string, now: Date, depths: Map<string, Promise<QueueDepth | undefined | "unseen">>, counts: SweepCounts): Promise<void> {
	const { registry, courier } = parts;
	const look = (queue: string) => {
		const known = depths.get(queue) ?? courier.depth(queue).catch((error): "unseen" => (parts.logger.debug(`Reliable: could not look at ${queue}: ${reasonOf(error)}`), "unseen"));
		depths.set(queue, known);
		return known;
	};
	const plans = await Promise.all(
		page.map(async message => {
			const known = registry.waitingFor(message.event, message.groups).filter(group => group !== ANY_GROUP);
			const seen = new Map<string, QueueDepth | undefined | "unseen">();
			for (const group of silentGroups(message, { now, known })) {
				const queue = registry.queueOf(group, message.event);
				seen.set(group, queue ? await look(queue) : undefined);
			}
			return planSweep(message, { now, known, depth: group => seen.get(group) });
		})
	);
	const settled = await Promise.all(plans.map(plan => act(parts, plan, claim, counts)));
	const failures = settled.flatMap(({ failures }) => failures);
	await parts.recordFailures(failures);
	const records = settled.map(({ record }) => record);
	counts.lost += records.length - (await parts.store.rescheduled(records));
}

async function act(parts: SweepParts, plan: Plan, claim: string, counts: SweepCounts): Promise<{ record: RescheduleRecord; failures: FailedRecord[] }> {
	const { message, steps, waits } = plan;
	const results = reachesAllAtOnce(plan) ? await parts.publisher.toAll(message, 1).then(result => steps.map(() => result)) : await parts.publisher.toGroups(message, steps);
	const at = new Date();
	const failures = [...plan.failures];
	const next = new Map(waits);
	const attempts: Record<string, number> = {};
	steps.forEach(({ group, attempt }, i) => {
		const { outcome, reason } = results[i] as PublishResult;
		counts[outcome]++;
		parts.metrics.outcome(message.event, outcome);
		if (outcome === "confirmed") {
			attempts[group] = attempt;
			next.set(group, new Date(at.getTime() + message.receiptTimeoutMs));
		} else if (outcome === "returned") {
			const error = { name: "Unroutable", message: reason ?? "no queue took it", code: "NO_ROUTE" };
			failures.push(judgeFailure(message, group, attempt, "unroutable", error, { now: at }));
		} else {
			next.set(group, new Date(at.getTime() + backoffMs(message.backoff, 1)));
		}
	});
	counts.waiting += waits.size;
	counts.silent += plan.failures.length;
	// The failures write their own schedule.
	const instants = [...next.values(), ...failures.flatMap(({ nextAt }) => nextAt ?? [])].map(date => date.getTime());
	const confirmed = Object.keys(attempts).length > 0;
	const record: RescheduleRecord = {
		id: message._id,
		claim,
		// With nothing left to wait for it is dead by now, and this record changes nothing.
		dueAt: new Date(instants.length ? Math.min(...instants) : at.getTime() + message.receiptTimeoutMs),
		next: Object.fromEntries(next),
		about: Object.fromEntries([...next.keys()].map(group => [group, currentAttempt(message, group)]))
	};
	if (confirmed) Object.assign(record, { status: "published", attempts, ...(message.publishedAt ? {} : { publishedAt: at }) });
	else if (steps.length && !failures.length) record.status = "pending";
	if (plan.groups) Object.assign(record, { groups: plan.groups, replaced: plan.replaced });
	return { record, failures };
}
