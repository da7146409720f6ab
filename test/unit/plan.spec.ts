import { describe, expect, it } from "vitest";
import type { QueueDepth } from "../../src/couriers/courier";
import { ANY_GROUP, type Failure, type Message } from "../../src/message/message";
import { planSweep, reachesAllAtOnce, type SweepPlan, silentGroups } from "../../src/sweeper/plan";
import { at, messageOf, receiptOf } from "../support/messages";

const NOW = 1_000_000;
const now = at(NOW);
const OLD = { publishedAt: at(1000), status: "published" } as const;
const EMPTY: QueueDepth = { ready: 0, consumers: 1 };

const displacedAt = (ms: number): Failure => ({
  at: at(ms),
  cause: "displaced",
  group: "stock",
  attempt: 1,
  error: { name: "Displaced", message: "taken" }
});

interface Seen {
  known?: string[];
  depths?: Record<string, QueueDepth | undefined | "unseen">;
  since?: Record<string, Date>;
}

function plan(fields: Partial<Message>, { known = [], depths = {}, since = {} }: Seen = {}): SweepPlan {
  const depth = (group: string) => (group in depths ? depths[group] : EMPTY);
  return planSweep(messageOf(fields), { now, known, depth, since: group => since[group] });
}

/** Everything a plan says, in a form that fits on a line; instants in ms from now. */
function told({ steps, failures, waits, renamed }: SweepPlan): object {
  return {
    steps: steps.map(({ group, attempt }) => `${group} ${attempt}`),
    failures: failures.map(
      ({ group, attempt, nextAt, failure }) =>
        `${group} ${attempt} ${failure.cause} ${nextAt ? nextAt.getTime() - now.getTime() : "spent"}`
    ),
    waits: [...waits].map(([group, until]) => `${group} ${until.getTime() - now.getTime()}`),
    ...(renamed ? { renamed } : {})
  };
}

describe("one group", () => {
  const table: [
    what: string,
    fields: Partial<Message>,
    seen: Seen,
    expected: { steps?: string[]; failures?: string[]; waits?: string[] }
  ][] = [
    ["pending, never published: the first attempt", {}, {}, { steps: ["stock 1"] }],
    [
      "pending, never published, even if its queue is long: nothing of it is in there",
      {},
      { depths: { stock: { ready: 9, consumers: 0 } } },
      { steps: ["stock 1"] }
    ],
    [
      "the same of a node whose clock is ahead of the store's: it does not wait for that",
      { createdAt: at(NOW + 3_600_000) },
      {},
      { steps: ["stock 1"] }
    ],
    ["pending after broker trouble, not due yet", { next: { stock: at(NOW + 500) } }, {}, { waits: ["stock 500"] }],
    [
      "pending after broker trouble, due: still the first attempt",
      { next: { stock: at(NOW - 1) } },
      {},
      { steps: ["stock 1"] }
    ],
    ["published, receipt not late yet", { ...OLD, publishedAt: at(NOW - 1000) }, {}, { waits: ["stock 59000"] }],
    [
      "published, due this very instant",
      { ...OLD, publishedAt: at(NOW - 60_000) },
      {},
      { failures: ["stock 1 silence 1000"] }
    ],
    [
      "settled by the broker's confirm, which only was not recorded: the publisher looks after it, nothing is burned",
      { ...OLD, waiting: ["queue-confirm/mail.send"] },
      {},
      { steps: ["queue-confirm/mail.send 1"] }
    ],
    [
      "the same with strategy callback, where nobody knows of a confirm",
      { ...OLD, waiting: ["queue-confirm/mail.send"], strategy: "callback" },
      {},
      { steps: ["queue-confirm/mail.send 2"], failures: ["queue-confirm/mail.send 1 silence 1000"] }
    ],
    [
      "to a queue whose workers send receipts: as any group",
      { ...OLD, waiting: ["queue/mail.send"] },
      {},
      { failures: ["queue/mail.send 1 silence 1000"] }
    ],
    [
      "published, silent, its queue empty: the attempt is burned, the next follows after the backoff",
      OLD,
      {},
      { failures: ["stock 1 silence 1000"] }
    ],
    [
      "silent for the last time: spent",
      { ...OLD, attempts: { stock: 3 }, spent: { stock: 2 } },
      {},
      { failures: ["stock 3 silence spent"] }
    ],
    [
      "silent, but allowed more after a retry by hand",
      { ...OLD, attempts: { stock: 4 }, spent: { stock: 3 }, base: { stock: 3 } },
      {},
      { failures: ["stock 4 silence 1000"] }
    ],
    [
      "silent, with a backlog: it waits and burns nothing",
      OLD,
      { depths: { stock: { ready: 1, consumers: 1 } } },
      { waits: ["stock 60000"] }
    ],
    [
      "silent, nobody home: it waits",
      OLD,
      { depths: { stock: { ready: 0, consumers: 0 } } },
      { waits: ["stock 60000"] }
    ],
    [
      "silent, its queue could not be looked at: a shorter wait",
      OLD,
      { depths: { stock: "unseen" } },
      { waits: ["stock 1000"] }
    ],
    [
      "silent, its queue is gone, and the message with it: the same attempt again",
      OLD,
      { depths: { stock: undefined } },
      { steps: ["stock 1"] }
    ],
    [
      "silent, and a policy was taking its messages a moment ago: the same attempt again",
      { ...OLD, failures: [displacedAt(NOW - 1000)] },
      {},
      { steps: ["stock 1"] }
    ],
    [
      "silent, and no policy has taken any for a while: it has failed",
      { ...OLD, failures: [displacedAt(NOW - 120_000)] },
      {},
      { failures: ["stock 1 silence 1000"] }
    ],
    [
      "of `callback`, to nobody known, and its producer alone was told whether a queue took it: the same attempt again",
      { ...OLD, waiting: [ANY_GROUP], strategy: "callback" },
      { known: [] },
      { steps: ["* 1"] }
    ],
    [
      "of `callback`, and its group came after it: the same attempt again",
      { ...OLD, strategy: "callback" },
      { known: ["stock"], since: { stock: at(2000) } },
      { steps: ["stock 1"] }
    ],
    [
      "of `callback`, and its group was there before it: it has failed",
      { ...OLD, strategy: "callback" },
      { known: ["stock"], since: { stock: at(-2000) } },
      { steps: ["stock 2"], failures: ["stock 1 silence 1000"] }
    ],
    [
      "of `callback`, to nobody known, and a queue did take it: it has failed",
      { ...OLD, waiting: [ANY_GROUP], strategy: "callback", attempts: { [ANY_GROUP]: 1 } },
      { known: [] },
      { steps: ["* 2"], failures: ["* 1 silence 1000"] }
    ],
    [
      "unroutable, and nobody has come: not before it is due",
      {
        waiting: [ANY_GROUP],
        attempts: { [ANY_GROUP]: 0 },
        unroutable: { [ANY_GROUP]: at(0) },
        next: { [ANY_GROUP]: at(NOW + 300) }
      },
      { known: [] },
      { waits: ["* 300"] }
    ],
    [
      "failed, backoff not over",
      { ...OLD, spent: { stock: 1 }, next: { stock: at(NOW + 300) } },
      {},
      { waits: ["stock 300"] }
    ],
    [
      "failed, backoff over: the next attempt, whatever stands in the queue",
      { ...OLD, spent: { stock: 1 }, next: { stock: at(NOW) } },
      { depths: { stock: { ready: 5, consumers: 0 } } },
      { steps: ["stock 2"] }
    ],
    [
      "failed before the publish was recorded: the next attempt",
      { spent: { stock: 1 }, next: { stock: at(NOW) } },
      {},
      { steps: ["stock 2"] }
    ],
    [
      "retried by hand: number goes on",
      { ...OLD, status: "pending", attempts: { stock: 3 }, spent: { stock: 3 }, base: { stock: 3 } },
      {},
      { steps: ["stock 4"] }
    ],
    [
      "retried by hand soon after the publish: at once",
      {
        ...OLD,
        publishedAt: at(NOW - 1000),
        status: "pending",
        attempts: { stock: 3 },
        spent: { stock: 3 },
        base: { stock: 3 }
      },
      {},
      { steps: ["stock 4"] }
    ],
    [
      "resent, waiting for the receipt of the second attempt",
      { ...OLD, attempts: { stock: 2 }, spent: { stock: 1 }, next: { stock: at(NOW + 10) } },
      {},
      { waits: ["stock 10"] }
    ],
    [
      "resent, silent again",
      { ...OLD, attempts: { stock: 2 }, spent: { stock: 1 }, next: { stock: at(NOW) } },
      {},
      { failures: ["stock 2 silence 2000"] }
    ]
  ];
  it.each(table)("%s", (_, fields, seen, { steps = [], failures = [], waits = [] }) => {
    expect(told(plan(fields, seen))).toEqual({ steps, failures, waits });
  });
});

describe("whoever is subscribed", () => {
  const table: [
    what: string,
    fields: Partial<Message>,
    seen: Seen,
    expected: { steps?: string[]; failures?: string[]; waits?: string[]; renamed?: string[] }
  ][] = [
    ["nobody known, never published: to the exchange", {}, {}, { steps: ["* 1"] }],
    [
      "nobody known, returned before: again after the backoff",
      { spent: { [ANY_GROUP]: 1 }, next: { [ANY_GROUP]: at(NOW) } },
      {},
      { steps: ["* 2"] }
    ],
    [
      "nobody known, returned before, backoff not over",
      { spent: { [ANY_GROUP]: 1 }, next: { [ANY_GROUP]: at(NOW + 7) } },
      {},
      { waits: ["* 7"] }
    ],
    ["nobody known, somebody took it, silence", OLD, {}, { failures: ["* 1 silence 1000"] }],
    [
      "unroutable, and its group has come: its first attempt, at once",
      {
        waiting: [ANY_GROUP],
        attempts: { [ANY_GROUP]: 0 },
        unroutable: { [ANY_GROUP]: at(0) },
        next: { [ANY_GROUP]: at(NOW + 300) }
      },
      { known: ["stock"] },
      { steps: ["stock 1"], renamed: ["stock"] }
    ],
    [
      "unroutable for one of its groups, which has come as a wildcard handler, while others were sent to: the same",
      {
        ...OLD,
        publishedAt: at(NOW - 1000),
        waiting: ["audit"],
        groups: ["mail", "audit"],
        attempts: { audit: 0 },
        unroutable: { audit: at(0) }
      },
      { known: ["mail", "audit:order.*"] },
      { steps: ["audit:order.* 1"], renamed: ["audit:order.*"] }
    ],
    [
      "known by now, never published: straight to each",
      {},
      { known: ["stock", "mail"] },
      { steps: ["stock 1", "mail 1"], renamed: ["stock", "mail"] }
    ],
    [
      "known by now, returned before: each with a budget of its own",
      { spent: { [ANY_GROUP]: 2 }, next: { [ANY_GROUP]: at(NOW) } },
      { known: ["stock"] },
      { steps: ["stock 1"], renamed: ["stock"] }
    ],
    [
      "known by now, has answered already",
      { receipts: { stock: receiptOf() } },
      { known: ["stock"] },
      { steps: ["* 1"] }
    ],
    [
      "known by now, one has answered, one has given up, one is new",
      { receipts: { stock: receiptOf() }, failed: ["mail"] },
      { known: ["stock", "mail", "audit"] },
      { steps: ["audit 1"], renamed: ["audit"] }
    ],
    [
      "known by now, published before they were: may lie in their queues, so it waits",
      OLD,
      { known: ["stock", "mail"], depths: { stock: { ready: 3, consumers: 1 }, mail: { ready: 0, consumers: 0 } } },
      { waits: ["stock 60000", "mail 60000"], renamed: ["stock", "mail"] }
    ],
    [
      "known by now, published before they were, queue empty: nobody knows whether it had it, so it gets it without burning",
      OLD,
      { known: ["stock"] },
      { steps: ["stock 1"], renamed: ["stock"] }
    ],
    [
      "known by now, published, receipts not late yet",
      { ...OLD, publishedAt: at(NOW - 1000) },
      { known: ["stock"] },
      { waits: ["stock 59000"], renamed: ["stock"] }
    ]
  ];
  it.each(table)("%s", (_, fields, seen, { steps = [], failures = [], waits = [], renamed }) => {
    expect(told(plan({ waiting: [ANY_GROUP], ...fields }, seen))).toEqual({
      steps,
      failures,
      waits,
      ...(renamed ? { renamed } : {})
    });
  });
});

describe("a group named by the emit before it was known", () => {
  const table: [what: string, fields: Partial<Message>, known: string[], expected: object][] = [
    ["still unknown", {}, ["audit"], { steps: ["audit 1"], failures: [], waits: [] }],
    ["known under its own name", {}, ["audit"], { steps: ["audit 1"], failures: [], waits: [] }],
    [
      "known by its wildcard handlers",
      {},
      ["audit:order.*", "audit:**"],
      { steps: ["audit:order.* 1", "audit:** 1"], failures: [], waits: [], renamed: ["audit:order.*", "audit:**"] }
    ],
    ["known by both: it stands for itself", {}, ["audit", "audit:**"], { steps: ["audit 1"], failures: [], waits: [] }],
    [
      "beside others",
      { waiting: ["stock", "audit"], groups: ["stock", "audit"] },
      ["stock", "audit:**"],
      { steps: ["stock 1", "audit:** 1"], failures: [], waits: [], renamed: ["stock", "audit:**"] }
    ]
  ];
  it.each(table)("%s", (_, fields, known, expected) => {
    expect(told(plan({ waiting: ["audit"], groups: ["audit"], ...fields }, { known }))).toEqual(expected);
  });
});

describe("several groups", () => {
  it("gives each what it needs, and those that have answered nothing", () => {
    const waiting = ["fresh", "silent", "busy", "gone", "backoff", "early"];
    const fields: Partial<Message> = {
      ...OLD,
      waiting,
      failed: ["given-up"],
      receipts: { done: receiptOf() },
      spent: { fresh: 1, backoff: 1, "given-up": 3 },
      next: { fresh: at(NOW - 5), backoff: at(NOW + 40), early: at(NOW + 60) }
    };
    const depths = { busy: { ready: 2, consumers: 1 }, gone: undefined };
    expect(told(plan(fields, { known: ["done", "given-up", ...waiting], depths }))).toEqual({
      steps: ["fresh 2"],
      failures: ["silent 1 silence 1000"],
      waits: ["busy 60000", "gone 10000", "backoff 40", "early 60"]
    });
  });
});

describe("silentGroups: whose queue is looked at", () => {
  const table: [what: string, fields: Partial<Message>, known: string[], groups: string[]][] = [
    ["an attempt is out and late", OLD, [], ["stock"]],
    ["not late", { ...OLD, next: { stock: at(NOW + 1) } }, [], []],
    ["none is out", {}, [], []],
    ["the last one has failed", { ...OLD, spent: { stock: 1 } }, [], []],
    ["nobody in particular", { ...OLD, waiting: [ANY_GROUP] }, [], []],
    [
      "those who take the place of nobody in particular",
      { ...OLD, waiting: [ANY_GROUP] },
      ["stock", "mail"],
      ["stock", "mail"]
    ],
    ["only those", { ...OLD, waiting: ["stock", "mail"], spent: { mail: 1 } }, [], ["stock"]]
  ];
  it.each(table)("%s", (_, fields, known, groups) => {
    expect(silentGroups(messageOf(fields), { now, known })).toEqual(groups);
  });
});

describe("reachesAllAtOnce", () => {
  const table: [what: string, fields: Partial<Message>, seen: Seen, atOnce: boolean][] = [
    ["first attempt for two groups that wait", { waiting: ["stock", "mail"] }, {}, true],
    ["a single group", { waiting: ["stock"] }, {}, false],
    [
      "restricted by the emit: the exchange would reach others",
      { waiting: ["stock", "mail"], groups: ["stock", "mail"] },
      {},
      false
    ],
    ["one has answered", { waiting: ["stock", "mail"], receipts: { audit: receiptOf() } }, {}, false],
    ["one has given up", { waiting: ["stock", "mail"], failed: ["audit"] }, {}, false],
    ["one is at its second attempt", { waiting: ["stock", "mail"], spent: { mail: 1 } }, {}, false],
    ["one is not due", { waiting: ["stock", "mail"], next: { mail: at(NOW + 1) } }, {}, false],
    ["only learned of now: some may have it", { waiting: [ANY_GROUP] }, { known: ["stock", "mail"] }, false]
  ];
  it.each(table)("%s: %s", (_, fields, seen, atOnce) => {
    expect(reachesAllAtOnce(plan(fields, seen))).toBe(atOnce);
  });
});
