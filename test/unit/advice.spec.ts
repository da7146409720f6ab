import { describe, expect, it } from "vitest";
import { adviceOf, type Level, type QueueWait, type Situation } from "../../src/operator/advice";

const now = new Date("2026-11-26T04:00:00.000Z");
const since = new Date("2026-11-26T03:02:10.000Z");
const yesterday = new Date("2026-11-25T22:40:00.000Z");

const well: Situation = {
  now,
  store: { name: "mongodb" },
  rabbitmq: {},
  redis: {},
  pending: { count: 0 },
  dead: { count: 0, groups: [] },
  parked: { count: 0 },
  groups: [],
  silentNodes: [],
  paused: [],
  breakers: [],
  bulks: []
};

const queue = { pattern: "order.created", queue: "q", ready: 0, consumers: 1, known: true };
const mail = (...waits: Partial<QueueWait>[]) => [
  { group: "mail", lastSeenAt: since, waits: waits.map(wait => ({ ...queue, ...wait })) }
];
const waiting = mail({ ready: 4120, consumers: 0 });
const pause = { group: "mail", sinceAt: since, by: "emma" };
const held = { key: "order-7", group: "mail", id: "o1", since: since.toISOString(), behind: 12 };
const breaker = { group: "mail", nodeID: "node-1", sinceAt: since };

describe("what to do", () => {
  it.each<[string, Partial<Situation>, Level, string]>([
    ["all is well", {}, "ok", "Nothing to do."],
    ["messages are on their way", { pending: { count: 9, oldestMs: 2000 } }, "ok", "Nothing to do."],
    ["a queue has messages and consumers", { groups: mail({ ready: 900 }) }, "ok", "Nothing to do."],
    ["an offline group waits for nothing", { groups: mail({ consumers: 0 }) }, "ok", "Nothing to do."],
    [
      "nothing can be known of the queues",
      { groups: [{ ...mail()[0], waits: [{ ...queue, ready: null, consumers: null, known: false }] }] as never },
      "ok",
      "Nothing to do."
    ],
    ["a bulk act runs", { bulks: [{ id: "b", act: "retry", state: "running" }] }, "ok", "Nothing to do."],
    [
      "dead ones",
      { dead: { count: 12, groups: ["mail"], since } },
      "act",
      "12 messages are dead: mail, since 03:02 UTC. Somebody has to act."
    ],
    [
      "a key is held",
      { keys: { count: 1, first: held } },
      "act",
      'Key order-7 is held in mail since 03:02 UTC by message o1, and 12 messages wait behind it. Retry that message, or: reliable skip order-7 --note "why"'
    ],
    [
      "a key with a blank is held, and nobody waits behind it",
      { keys: { count: 1, first: { ...held, key: "order 7", behind: 0 } } },
      "act",
      'Key order 7 is held in mail since 03:02 UTC by message o1. Retry that message, or: reliable skip "order 7" --note "why"'
    ],
    [
      "more keys are held than were counted",
      { keys: { count: 10_000, capped: true, first: { ...held, behind: 1000, capped: true } } },
      "act",
      "Key order-7 is held in mail since 03:02 UTC by message o1, and 1,000+ messages wait behind it. 9,999+ more are held. Retry their messages, or skip them: reliable keys"
    ],
    ["a dead intent", { dead: { count: 1, groups: [] } }, "act", "1 message is dead. Somebody has to act."],
    [
      "dead ones of many groups, since yesterday",
      { dead: { count: 100_000, capped: true, groups: ["a", "b", "c", "d", "e"], since: yesterday } },
      "act",
      "100,000+ messages are dead: a, b, c, and 2 more, since 2026-11-25 22:40 UTC. Somebody has to act."
    ],
    [
      "RabbitMQ is away",
      { rabbitmq: { awaySince: since }, pending: { count: 4120, oldestMs: 3_480_000 } },
      "act",
      "RabbitMQ does not answer since 03:02 UTC; 4,120 messages wait and go out by themselves."
    ],
    [
      "RabbitMQ is away, and one message waits",
      { rabbitmq: { awaySince: since }, pending: { count: 1 } },
      "act",
      "RabbitMQ does not answer since 03:02 UTC; 1 message waits and goes out by itself."
    ],
    [
      "RabbitMQ blocks",
      { rabbitmq: { awaySince: since, blocked: "low on disk" }, pending: { count: 10, capped: true } },
      "act",
      "RabbitMQ takes no publishes since 03:02 UTC (low on disk); 10+ messages wait and go out by themselves when it has room again. Give it room."
    ],
    [
      "the store is away",
      {
        store: { name: "mongodb", awaySince: since },
        pending: { count: undefined },
        dead: { count: undefined, groups: [] }
      },
      "act",
      "The store (mongodb) takes no writes since 03:02 UTC: emits that need it are refused, and receipts wait in RabbitMQ. Bring it back; what was promised is kept."
    ],
    [
      "the store is slow",
      { store: { name: "mongodb", awaySince: since, slow: true }, pending: { count: undefined } },
      "watch",
      "The store (mongodb) answers slowly since 03:02 UTC: no answer within 1 s. Nothing is lost; what needs it takes longer."
    ],
    [
      "RabbitMQ is connected, and what is asked of it has no answer",
      { rabbitmq: { awaySince: since, slow: "no confirms for 8 s" }, pending: { count: 21, oldestMs: 400_000 } },
      "watch",
      "RabbitMQ is connected and answers slowly since 03:02 UTC: no confirms for 8 s. Nothing is lost; what is to go out waits."
    ],
    [
      "a group without a consumer",
      { groups: waiting },
      "act",
      "Group mail has no consumer since 03:02 UTC; 4,120 messages wait in its queue. Start it; nothing is lost."
    ],
    [
      "a breaker is open, which takes the queue's consumer away",
      { groups: mail({ ready: 9, consumers: 0, lives: true }), breakers: [breaker] },
      "watch",
      "What group mail needs is away since 03:02 UTC (on node-1); its messages wait, lose no attempt, and go on by themselves."
    ],
    [
      "the same on a node that has no store, and is not asked",
      { groups: mail({ ready: 9, consumers: 0, lives: true }) },
      "watch",
      "Group mail runs and takes nothing at the moment: its breaker is open, or it is just starting; 9 messages wait in its queue and go on by themselves. Its log says why."
    ],
    [
      "a paused group with wildcards",
      {
        groups: [{ ...mail({ pattern: "order.*", ready: 5, consumers: 0 })[0], group: "mail:order.*" }] as never,
        paused: [pause]
      },
      "watch",
      "Group mail is paused since 03:02 UTC by emma; its messages wait."
    ],
    [
      "one of its two queues without a consumer",
      { groups: mail({ ready: 5 }, { pattern: "order.paid", ready: 1, consumers: 0 }) },
      "act",
      "Group mail has no consumer since 03:02 UTC; 1 message waits in its queue. Start it; nothing is lost."
    ],
    [
      "a group whose queue is gone",
      { groups: mail({ ready: null, consumers: null } as never) },
      "act",
      "Group mail has no queue for order.created; it was last seen at 03:02 UTC. Start it, or if it is gone for good: reliable forget mail"
    ],
    [
      "parked ones",
      { parked: { count: 3 } },
      "act",
      "3 messages could not be read and are parked. Look at them: reliable parked"
    ],
    [
      "a parked one",
      { parked: { count: 1 } },
      "act",
      "1 message could not be read and is parked. Look at it: reliable parked"
    ],
    [
      "a bulk act that has stopped itself",
      { bulks: [{ id: "b-1", act: "retry", state: "stopped", reason: "11 of the last 50 are dead again" }] },
      "act",
      "The bulk retry b-1 has stopped itself: 11 of the last 50 are dead again. Look at why, then begin it again."
    ],
    [
      "a breaker is open on two nodes",
      { breakers: [breaker, { ...breaker, nodeID: "node-2", sinceAt: now }] },
      "watch",
      "What group mail needs is away since 03:02 UTC (on node-1, node-2); its messages wait, lose no attempt, and go on by themselves."
    ],
    [
      "a silent node",
      { silentNodes: [{ nodeID: "node-2", since }] },
      "watch",
      "Node node-2 does not answer since 03:02 UTC; the others do its work."
    ],
    [
      "a paused group",
      { paused: [pause], groups: waiting },
      "watch",
      "Group mail is paused since 03:02 UTC by emma; its messages wait."
    ],
    [
      "old pending ones",
      { pending: { count: 7, oldestMs: 600_000 } },
      "watch",
      "7 messages are pending, the oldest for 10 min. See why: reliable list --status pending"
    ],
    [
      "Redis is away",
      { redis: { awaySince: since } },
      "watch",
      "Redis does not answer since 03:02 UTC; sweeping goes on without a lease, and nothing is lost."
    ]
  ])("%s", (_, changes, level, sentence) => {
    expect(adviceOf({ ...well, ...changes })).toEqual({ level, sentence, also: [] });
  });

  it("a pause of one pattern excuses no other", () => {
    const { sentence, also } = adviceOf({
      ...well,
      paused: [{ ...pause, pattern: "order.paid" }],
      groups: mail({ ready: 2, consumers: 0 }, { pattern: "order.paid", ready: 9, consumers: 0 })
    });
    expect(sentence).toBe(
      "Group mail has no consumer since 03:02 UTC; 2 messages wait in its queue. Start it; nothing is lost."
    );
    expect(also).toEqual(["Group mail (order.paid) is paused since 03:02 UTC by emma; its messages wait."]);
  });

  it("what is slow comes behind what somebody has to do", () => {
    const dead = { count: 1, groups: ["mail"] };
    const slow = adviceOf({ ...well, store: { name: "mongodb", awaySince: since, slow: true }, dead });
    expect(slow).toMatchObject({ level: "act", also: [expect.stringContaining("answers slowly")] });
    expect(slow.sentence).toMatch(/dead/);
  });

  it("the most pressing comes first, in this order, and the others follow", () => {
    const all = adviceOf({
      ...well,
      store: { name: "mongodb", awaySince: since },
      rabbitmq: { awaySince: since },
      dead: { count: 1, groups: ["mail"] },
      bulks: [{ id: "b", act: "retry", state: "stopped" }],
      groups: waiting,
      parked: { count: 1 },
      breakers: [{ ...breaker, group: "stock" }],
      silentNodes: [{ nodeID: "node-2", since }],
      paused: [{ ...pause, group: "audit" }],
      redis: { awaySince: since }
    });
    expect([all.sentence, ...all.also].map(text => text.split(" ").slice(0, 3).join(" "))).toEqual([
      "The store (mongodb)",
      "RabbitMQ does not",
      "1 message is",
      "The bulk retry",
      "Group mail has",
      "1 message could",
      "What group stock",
      "Node node-2 does",
      "Group audit is",
      "Redis does not"
    ]);
    expect(all.level).toBe("act");
  });
});
