import { expect, it } from "vitest";
import type { QueueDepth } from "../../src/couriers/courier";
import type { Message } from "../../src/message/message";
import { planSweep } from "../../src/sweeper/plan";
import { at, messageOf } from "../support/messages";

const NOW = 1_000_000;
const now = at(NOW);
const OLD = { publishedAt: at(1000), status: "published" } as const;
const EMPTY: QueueDepth = { ready: 0, consumers: 1 };

/** An attempt is out, and nothing is left in the queue. */
function told(
  takesSince: Date | "never" | undefined,
  fields: Partial<Message> = {},
  depth: QueueDepth | "unseen" | undefined = EMPTY
): object {
  const message = messageOf({ ...OLD, ...fields });
  const { steps, failures, waits } = planSweep(message, {
    now,
    known: ["stock"],
    checked: fields.strategy === "callback",
    depth: () => depth,
    takesSince: () => takesSince
  });
  return {
    steps: steps.map(({ group, attempt }) => `${group} ${attempt}`),
    failures: failures.map(({ group, failure }) => `${group} ${failure.cause}`),
    waits: [...waits].map(([group, until]) => `${group} ${until.getTime() - now.getTime()}`)
  };
}

const waits = (ms: number) => ({ steps: [], failures: [], waits: [`stock ${ms}`] });

it.each<[string, Parameters<typeof told>, object]>([
  ["never paused: silence", [undefined], { steps: [], failures: ["stock silence"], waits: [] }],
  ["paused: left alone, though somebody consumes", ["never"], waits(60_000)],
  ["resumed 10 s ago: it gets the time that it had at first", [at(NOW - 10_000)], waits(50_000)],
  ["resumed just now", [now], waits(60_000)],
  ["resumed long ago: silence", [at(NOW - 60_000)], { steps: [], failures: ["stock silence"], waits: [] }],
  ["paused, with its message in the queue", ["never", {}, { ready: 1, consumers: 0 }], waits(60_000)],
  ["paused, while a handler still runs", ["never", {}, { ready: 0, consumers: 0 }], waits(60_000)],
  ["paused, and its queue cannot be looked at", ["never", {}, "unseen"], waits(1000)],
  [
    "paused, its check has come: nothing burns",
    ["never", { strategy: "callback", delays: [1], round: 1 }],
    waits(60_000)
  ],
  [
    "paused, and nothing was sent to it yet: that goes into its queue",
    ["never", { publishedAt: undefined, status: "pending" } as Partial<Message>],
    { steps: ["stock 1"], failures: [], waits: [] }
  ],
  [
    "paused, after a failure: the next attempt waits in its queue",
    ["never", { attempts: { stock: 1 }, spent: { stock: 1 }, next: { stock: at(NOW - 1) } }],
    { steps: ["stock 2"], failures: [], waits: [] }
  ]
])("%s", (_, args, expected) => expect(told(...args)).toEqual(expected));
