import { describe, expect, it } from "vitest";
import { explore } from "./explorer";
import type { Scenario } from "./parts";
import type { Faults, Model } from "./world";

type Run = [what: string, faults: Faults, more?: Partial<Model> & { groups?: 1 | 2; unknownGroups?: boolean }];

/** More than any of them has; a run that reaches it has not seen everything and fails. */
const MAX_STATES = 900_000;

const EVERY: Record<string, { scenario: Partial<Scenario>; runs: Run[] }> = {
	outbox: {
		scenario: { strategy: "outbox" },
		runs: [
			["a process dies, a delay ends too early", { crash: 1, slow: 1 }],
			["two processes die", { crash: 2 }],
			["a publish or its confirm is lost, a process dies, two sweepers", { lose: 1, crash: 1 }, { sweepers: 2 }],
			["two sweepers, two trackers, a process dies", { crash: 1 }, { sweepers: 2, trackers: 2 }],
			["two sweepers, and a claim ends too early", { slow: 1 }, { sweepers: 2 }],
			["handlers fail, a message comes twice", { fail: 3, duplicate: 1 }],
			["the queue is purged, a process dies", { purge: 1, crash: 1 }],
			["two groups", {}, { groups: 2 }],
			["nobody knew the groups", { crash: 1 }, { unknownGroups: true }]
		]
	}
};

describe.each(Object.entries(EVERY))("%s", (_, { scenario, runs }) => {
	it.each(runs)("%s", async (what, faults, { groups = 1, unknownGroups, ...more } = {}) => {
		const model: Model = { scenario: { strategy: "outbox", maxAttempts: 2, groups, ...(unknownGroups && { unknownGroups }), ...scenario }, faults, ...more };
		const { states, transitions, ends, complete, broken } = await explore(model, MAX_STATES);
		console.log(`${what}: ${states} states, ${transitions} transitions, ends: ${JSON.stringify(ends)}`);
		expect(broken).toBeUndefined();
		expect(complete).toBe(true);
	}, 180_000);
});
