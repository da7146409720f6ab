import { expect, it } from "vitest";
import type { Delivery } from "../../src/couriers/courier";
import { ReliableError, ReliableRetryableError } from "../../src/errors";
import type { Message } from "../../src/message/message";
import { systemClock } from "../../src/platform/clock";
import type { RowStatus } from "../../src/stores/store-records";
import { CallbackService } from "../../src/sweeper/callback-service";
import type { SweepParts } from "../../src/sweeper/sweep-parts";
import { Metrics } from "../../src/telemetry/metrics";
import { encodeChecks, type OutgoingCheck } from "../../src/wire/checks";
import { HEADER } from "../../src/wire/envelope";
import { systemQueues } from "../../src/wire/names";
import { sharedPlanOf } from "../../src/wire/plan";
import { messageOf, silent } from "../support/messages";

const DELAYS = [1000, 2000];

function checkOf(id: string, more: Partial<OutgoingCheck> = {}): OutgoingCheck {
  const message = messageOf({ _id: id, strategy: "callback", delays: DELAYS, createdAt: new Date() });
  const { version, attempt, receipt, producer, round } = HEADER;
  return {
    ...{ id, event: "order.created", at: Date.now(), body: Buffer.from('{"n":1}'), plan: sharedPlanOf(message) },
    headers: { [version]: 1, [attempt]: 1, [receipt]: "r", [producer]: "orders", [round]: 1 },
    own: undefined,
    ...more
  };
}

let tags = 0;
const deliveryOf = (checks: OutgoingCheck[], more: Partial<Delivery> = {}): Delivery =>
  ({
    ...{ queue: "ns.reliable.checks", messageId: `batch-${++tags}`, type: "reliable.checks", tag: tags, epoch: 1 },
    headers: { [HEADER.version]: 1, [HEADER.count]: checks.length },
    body: encodeChecks(checks),
    redelivered: false,
    ...more
  }) as Delivery;

/** Without a broker: what is to be sent is left to the sweeper. */
function service({ rows = [] as RowStatus[], refuses = [] as string[], keepBodies = false, retainMs = 1e9 } = {}) {
  const looks: string[][] = [];
  const upserts: string[][] = [];
  const messages = {
    statuses: async (ids: string[]) => {
      looks.push(ids);
      return rows.filter(({ id }) => ids.includes(id));
    },
    upsertFromChecks: async (given: Message[]) => {
      upserts.push(given.map(({ _id }) => _id));
      const refused = given.find(({ _id }) => refuses.includes(_id));
      if (refused) throw new ReliableError("RELIABLE_STORE_REFUSED", `no ${refused._id}`, {});
      return given;
    }
  };
  const parts = {
    ...{ store: { ready: true, messages, now: () => new Date() }, courier: { ready: false }, clock: systemClock },
    ...{ subscriptions: { waitingFor: () => ["mail"] }, metrics: new Metrics(), logger: silent, nodeID: "n" }
  } as unknown as SweepParts;
  const made = new CallbackService(parts, { queues: systemQueues("ns"), retainMs, keepBodies });
  return { take: (...deliveries: Delivery[]) => made.take(deliveries), looks, upserts, messages };
}

const row = (id: string, more: Partial<RowStatus> = {}): RowStatus => ({
  ...{ id, event: "order.created", status: "consumed", partial: true },
  ...more
});

it("one look for all checks; of what everybody has handled nothing more is read or written", async () => {
  const { take, looks, upserts } = service({ rows: [row("a"), row("b", { status: "resolved" }), row("c")] });
  expect(await take(deliveryOf([checkOf("a"), checkOf("b")]), deliveryOf([checkOf("c")]))).toEqual([]);
  expect(looks).toEqual([["a", "b", "c"]]);
  expect(upserts).toEqual([]);
});

it("what is not finished, not known, or has a payload to compare goes on; all of it, if payloads are kept", async () => {
  const rows = [
    row("a"),
    row("b", { status: "published" }),
    row("c", { partial: false }),
    row("d", { status: "dead" })
  ];
  const withdrawn = row("e", { status: "withdrawn" });
  const lean = service({ rows: [...rows, withdrawn] });
  const checks = () => deliveryOf(["a", "b", "c", "d", "e", "f"].map(id => checkOf(id)));
  await lean.take(checks());
  expect(lean.upserts).toEqual([["b", "c", "d", "e", "f"]]);
  const keeping = service({ rows, keepBodies: true });
  await keeping.take(checks());
  expect(keeping.upserts).toEqual([["a", "b", "c", "d", "e", "f"]]);
});

it("a check of another event under the id of what is finished is parked, alone", async () => {
  const { take } = service({ rows: [row("a"), row("b")] });
  const delivery = deliveryOf([checkOf("a"), checkOf("b", { event: "order.paid" })]);
  const faults = await take(delivery);
  expect(faults).toMatchObject([
    [
      delivery,
      "id 'b' was emitted before with another event or payload (check 2 of its message)",
      { messageId: "b", type: "order.paid" }
    ]
  ]);
});

it("a check that cannot be read is parked alone, with its bytes and its number; each time as the same one", async () => {
  const { take, upserts } = service();
  const bad = checkOf("b", { body: Buffer.from("no JSON") });
  const delivery = deliveryOf([checkOf("a"), bad, checkOf("c", { at: 0 }), checkOf("d")]);
  const faults = await take(delivery);
  expect(faults).toMatchObject([
    [delivery, "bad at 0 (check 3 of its message)", { messageId: `${delivery.messageId}.3` }],
    [
      delivery,
      "body is not JSON (check 2 of its message)",
      { messageId: "b", body: Buffer.from("no JSON"), headers: { "x-reliable-item": 2 } }
    ]
  ]);
  expect(upserts).toEqual([["a", "d"]]);
  const again = await take(delivery);
  expect(again.map(([, , part]) => part)).toEqual(faults.map(([, , part]) => part));
  for (const [i, [, , part]] of again.entries()) expect(part).toBe(faults[i]?.[2]);
});

it("one that is older than what is kept is parked alone", async () => {
  const { take, upserts } = service({ retainMs: 60_000 });
  const faults = await take(deliveryOf([checkOf("old", { at: Date.now() - 61_000 }), checkOf("new")]));
  expect(faults).toMatchObject([[{}, expect.stringMatching(/older than retainMs/), { messageId: "old" }]]);
  expect(upserts).toEqual([["new"]]);
});

it("a message whose checks cannot be told apart is parked whole; so is one that says it is one, and is none", async () => {
  const { take } = service();
  const torn = deliveryOf([checkOf("a"), checkOf("b")], { body: Buffer.from("{}\n") });
  const plain = deliveryOf([checkOf("a")], { headers: { [HEADER.version]: 1 } });
  expect(await take(torn, plain)).toEqual([
    [torn, "unknown version undefined of checks"],
    [plain, "check without x-reliable-round"]
  ]);
});

it("one that the store refuses takes along no other: of several messages each by itself, of one each check", async () => {
  const { take, upserts } = service({ refuses: ["bad"] });
  const delivery = deliveryOf([checkOf("a"), checkOf("bad"), checkOf("b")]);
  // It is for the one who has all of them to take them apart.
  await expect(take(delivery, deliveryOf([checkOf("c")]))).rejects.toMatchObject({ type: "RELIABLE_STORE_REFUSED" });
  upserts.length = 0;
  expect(await take(delivery)).toMatchObject([
    [delivery, "it could not be handled: no bad (check 2 of its message)", { messageId: "bad" }]
  ]);
  expect(upserts).toEqual([["a", "bad", "b"], ["a"], ["bad"], ["b"]]);
});

it("while the store is away nothing is parked, and nothing is taken apart", async () => {
  const { take, messages } = service();
  let looks = 0;
  messages.statuses = async () => {
    looks++;
    throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", "away", {});
  };
  await expect(take(deliveryOf([checkOf("a"), checkOf("b")]))).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
  expect(looks).toBe(1);
});
