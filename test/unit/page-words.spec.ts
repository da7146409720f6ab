import { expect, it } from "vitest";
import {
  isAllPaused,
  needsSomething,
  pausesOf,
  statesOf,
  whyNotForget
} from "../../src/dashboard/page/groups/group-state";
import { countsOf, nextSteps } from "../../src/dashboard/page/overview/next-steps";
import { leasesOf, nodeState, sweepingText } from "../../src/dashboard/page/servers/node-words";

type Overview = Parameters<typeof nextSteps>[0];
type Group = Overview["groups"][number];
type Queue = Group["queues"][number];

const queue = (pattern: string, ready: number | null, consumers: number | null, more: Partial<Queue> = {}): Queue => ({
  ...{ pattern, queue: `q.${pattern}`, ready, consumers, known: true },
  ...more
});
const group = (name: string, queues: Queue[], more: Partial<Group> = {}): Group => ({
  ...{ group: name, queues, ready: 0, consumers: 0, dead: 0, handledPerMinute: 0, failedPerMinute: 0 },
  ...{ lastNode: "node-1", lastSeenAt: null },
  ...more
});
const since = "2026-11-26T03:00:00.000Z";
const calm = { paused: [], breakers: [] };
const textsOf = (row: Group, going: Parameters<typeof statesOf>[1] = calm) =>
  statesOf(row, going).map(({ tone, text }) => `${tone}: ${text.replace(/\d\d:\d\d/, "T")}`);

it("a group that works is well, and one that nothing is known of is not called so", () => {
  expect(textsOf(group("mail", [queue("a", 3, 2)]))).toEqual(["ok: well"]);
  expect(textsOf(group("mail", [queue("a", null, null, { known: false })]))).toEqual(["plain: RabbitMQ does not say"]);
  expect(textsOf(group("mail", []))).toEqual(["plain: not subscribed any more"]);
});

it("what somebody has to act on stands first", () => {
  const row = group("mail", [queue("a", 3, 0), queue("b", null, null)], { dead: 12, deadCapped: true });
  expect(textsOf(row)).toEqual(["act: 12+ dead", "act: no consumer: start it", "act: no queue for b"]);
  expect(needsSomething(statesOf(row, calm))).toBe(true);
});

it("no consumer is no fault while nothing waits, while it is paused, or while a process has it", () => {
  expect(textsOf(group("mail", [queue("a", 0, 0)]))).toEqual(["plain: no consumer, nothing waits"]);
  expect(textsOf(group("mail", [queue("a", 9, 0, { lives: true })]))).toEqual(["watch: takes nothing at the moment"]);
  const paused = { ...calm, paused: [{ group: "mail", sinceAt: since, by: "emma" }] };
  expect(textsOf(group("mail", [queue("a", 9, 0)]), paused)).toEqual(["watch: paused since T by emma"]);
});

it("a pause of one pattern leaves the others going", () => {
  const going = { ...calm, paused: [{ group: "mail", pattern: "a", sinceAt: since, by: "emma" }] };
  const row = group("mail", [queue("a", 9, 0), queue("b", 9, 0)]);
  expect(textsOf(row, going)).toEqual(["act: no consumer: start it", "watch: paused for a since T by emma"]);
  expect(isAllPaused(going, row)).toBe(false);
  expect(isAllPaused(going, group("mail", [queue("a", 9, 0)]))).toBe(true);
  expect(pausesOf(going, "mail", "b")).toEqual([]);
});

it("a wildcard consumer of a group is paused with it, and a group that only begins so is not", () => {
  const going = { ...calm, paused: [{ group: "mail", sinceAt: since, by: "emma" }] };
  expect(pausesOf(going, "mail:order.*")).toHaveLength(1);
  expect(pausesOf(going, "mailing")).toEqual([]);
});

it("an open breaker says where; then what has no consumer needs no second text", () => {
  const going = { ...calm, breakers: [{ group: "mail", nodeID: "node-2", sinceAt: since }] };
  expect(textsOf(group("mail", [queue("a", 9, 0, { lives: true })]), going)).toEqual([
    "watch: breaker open on node-2 since T"
  ]);
});

it("a group in use is not forgotten", () => {
  expect(whyNotForget(group("mail", [queue("a", 0, 2)], { consumers: 2 }))).toContain("2 consumers");
  expect(whyNotForget(group("mail", [queue("a", 0, 0, { lives: true })]))).toContain("process");
  expect(whyNotForget(group("mail", [queue("a", 9, 0)]))).toBeUndefined();
});

const server = (name: "RabbitMQ" | "store" | "Redis", ok: boolean) => ({ name, ok, text: "" });
const all = (more: Partial<Overview> = {}): Overview => ({
  ...{ level: "ok", sentence: "", also: [], at: since, nodeID: "node-1", messages: null, groups: [] },
  ...{ servers: [server("RabbitMQ", true)], nodes: [], paused: [], breakers: [], bulks: [], keys: null },
  ...more
});
const messages = (dead: number, parked: number): Overview["messages"] => ({
  byStatus: {
    ...{ scheduled: 0, intended: 0, pending: 0, published: 0, consumed: 9, dead, resolved: 0 },
    ...{ withdrawn: 0, cancelled: 0 }
  },
  ...{ parked, capped: ["dead"], oldestPendingMs: null, oldestUnconsumedMs: null, oldestDeadMs: 5000 }
});

it("where nothing is to do, no way leads anywhere", () => {
  expect(nextSteps(all())).toEqual([]);
});

it("held keys are named before dead messages, as in the sentence", () => {
  const keys = { held: 2, behind: 7, capped: [], longest: [] };
  expect(nextSteps(all({ messages: messages(12, 0), keys })).map(({ page, text }) => [page, text])).toEqual([
    ["keys", "See 2 held keys"],
    ["dead", "See what 12+ messages died of"]
  ]);
  expect(nextSteps(all({ keys: { ...keys, held: 0 } }))).toEqual([]);
});

it("the ways follow the order of the sentences", () => {
  const pagesOf = (data: Overview) => nextSteps(data).map(({ page }) => page);
  const trouble = {
    messages: messages(12, 3),
    groups: [group("audit", [queue("a", 5, 0)])],
    bulks: [
      { id: "b1", act: "retry", state: "running" },
      { id: "b2", act: "retry", state: "stopped" }
    ]
  };
  expect(pagesOf(all({ ...trouble, servers: [server("store", false)] }))).toEqual([
    ...["servers", "dead", "acts", "groups", "parked"]
  ]);
  expect(pagesOf(all({ ...trouble, servers: [server("Redis", false)] }))).toEqual([
    ...["dead", "acts", "groups", "parked", "servers"]
  ]);
  expect(pagesOf(all({ nodes: [{ nodeID: "n", kind: "reliable", answers: false }] }))).toEqual(["servers"]);
  expect(nextSteps(all(trouble))[0]?.text).toContain("12+ messages");
});

it("while the store does not say, counts are not known, and not 0", () => {
  expect(countsOf(null).every(({ value }) => value === null)).toBe(true);
  const [dead] = countsOf(messages(12, 0));
  expect(dead).toMatchObject({ name: "Dead", value: 12, capped: true, oldestMs: 5000, urgent: true, page: "dead" });
});

it("a node in words", () => {
  const health = {
    ...{ ok: true, failing: [], degraded: [], breakers: [], sweeping: "standby", lastSweep: "" },
    ...{ inFlightPublishes: 0, inFlightHandlers: 0, reconnects: 0 }
  };
  const node = { nodeID: "n", kind: "reliable" as const, answers: true, health };
  expect(nodeState(node)).toEqual({ tone: "ok", text: "well", more: [] });
  expect(nodeState({ ...node, health: { ...health, degraded: ["b"] } })).toMatchObject({ tone: "watch", more: ["b"] });
  expect(nodeState({ ...node, health: { ...health, ok: false, failing: ["a"], degraded: ["b"] } })).toMatchObject({
    ...{ tone: "act", more: ["a", "b"] }
  });
  expect(nodeState({ nodeID: "n", kind: "reliable", answers: false, reason: "late" })).toEqual({
    ...{ tone: "watch", text: "no answer", more: ["late"] }
  });
  expect(nodeState({ nodeID: "n", kind: "consumer", answers: null })).toMatchObject({ text: "not asked" });
  expect(sweepingText(node)).toBe("no: another node does");
  expect(sweepingText({ ...node, health: { ...health, sweeping: "else" } })).toBe("else");
});

it("partitions that nobody holds come first", () => {
  expect(leasesOf(["a", null, "b", "a"])).toEqual([
    { holder: null, partitions: [1] },
    { holder: "a", partitions: [0, 3] },
    { holder: "b", partitions: [2] }
  ]);
});
