import { expect, it } from "vitest";
import type { Courier, Publication, PublishResult } from "../../src/couriers/courier";
import { ReliableError } from "../../src/errors";
import type { Message } from "../../src/message/message";
import { MessagePublisher } from "../../src/outbound/message-publisher";
import { systemClock } from "../../src/platform/clock";
import { Metrics } from "../../src/telemetry/metrics";
import { parseChecks } from "../../src/wire/checks";
import { systemQueues } from "../../src/wire/names";
import { messageOf } from "../support/messages";

const CONFIRMED: PublishResult = { outcome: "confirmed" };
const DELAYS = [1000, 2000];

interface Sent {
  publication: Publication;
  ids: string[];
  end(result: PublishResult): Promise<void>;
  fail(error: Error): Promise<void>;
}

const idsOf = (publication: Publication) =>
  publication.type === "reliable.checks" ? parseChecks(publication).map(({ id }) => id) : [publication.messageId];

const turn = () => new Promise<void>(resolve => setImmediate(resolve));

/** A publisher whose publishes end when the test says so. */
function publisherOf(maxItems?: number) {
  const sent: Sent[] = [];
  const publish = (publication: Publication) =>
    new Promise<PublishResult>((resolve, reject) => {
      const then = async (act: () => void) => {
        act();
        await turn();
      };
      sent.push({
        ...{ publication, ids: idsOf(publication) },
        end: result => then(() => resolve(result)),
        fail: error => then(() => reject(error))
      });
    });
  const courier = { ready: true, publish } as unknown as Courier;
  const queues = systemQueues("ns");
  const batch = maxItems === undefined ? {} : { checkBatch: maxItems };
  const publisher = new MessagePublisher(courier, undefined, queues, "node", new Metrics(), systemClock, batch);
  const ends = new Map<string, string>();
  const check = (id: string, more: Partial<Message> = {}) =>
    void publisher
      .check(
        messageOf({ ...{ _id: id, strategy: "callback", delays: DELAYS, body: Buffer.from('{"n":1}') }, ...more }),
        1
      )
      .then(
        ({ outcome }) => ends.set(id, outcome),
        (error: ReliableError) => ends.set(id, error.type)
      );
  return { sent, ends, check };
}

it("one alone goes at once and in its own form; while it is on its way the next ones collect", async () => {
  const { sent, ends, check } = publisherOf(200);
  check("a");
  await turn();
  expect(sent.map(({ publication: { type, to } }) => [type, to])).toEqual([
    ["order.created", { queue: "ns.reliable.checks", delayMs: 1000 }]
  ]);
  expect(sent[0]?.publication.headers).toMatchObject({ "x-reliable-round": 1, "x-reliable-echo": expect.any(String) });
  for (const id of ["b", "c"]) check(id);
  await turn();
  check("d");
  await turn();
  expect(sent).toHaveLength(1);
  await sent[0]?.end(CONFIRMED);
  expect(Object.fromEntries(ends)).toEqual({ a: "confirmed" });
  expect(sent.map(({ ids }) => ids)).toEqual([["a"], ["b", "c", "d"]]);
  expect(sent[1]?.publication).toMatchObject({
    to: { queue: "ns.reliable.checks", delayMs: 1000 },
    headers: { "x-reliable-version": 1, "x-reliable-count": 3 }
  });
  // Nobody is told before their own message is confirmed.
  expect(ends.size).toBe(1);
  await sent[1]?.end(CONFIRMED);
  expect(Object.fromEntries(ends)).toEqual({ a: "confirmed", b: "confirmed", c: "confirmed", d: "confirmed" });
});

it("those of one turn go together", async () => {
  const { sent, check } = publisherOf(200);
  for (const id of ["a", "b"]) check(id);
  await turn();
  expect(sent.map(({ ids }) => ids)).toEqual([["a", "b"]]);
});

it("a second message goes while the first is on its way only when it is full; no third", async () => {
  const { sent, check } = publisherOf(3);
  check("first");
  await turn();
  for (const id of ["1", "2"]) check(id);
  await turn();
  expect(sent).toHaveLength(1);
  for (const id of ["3", "4", "5", "6", "7"]) check(id);
  await turn();
  expect(sent.map(({ ids }) => ids)).toEqual([["first"], ["1", "2", "3"]]);
  await sent[1]?.end(CONFIRMED);
  expect(sent.map(({ ids }) => ids)).toEqual([["first"], ["1", "2", "3"], ["4", "5", "6"]]);
  await sent[2]?.end(CONFIRMED);
  expect(sent).toHaveLength(3);
  await sent[0]?.end(CONFIRMED);
  expect(sent.at(-1)?.ids).toEqual(["7"]);
});

it("by bytes: a message has 128 KiB of them, and a check with a large payload goes alone, at once", async () => {
  const { sent, check } = publisherOf(500);
  check("first");
  await turn();
  check("large", { body: Buffer.from(JSON.stringify("x".repeat(3000))) });
  await turn();
  expect(sent.map(({ ids }) => ids)).toEqual([["first"], ["large"]]);
  for (let n = 0; n < 300; n++) check(`m${n}`, { body: Buffer.from(JSON.stringify("x".repeat(1000))) });
  await turn();
  await sent[0]?.end(CONFIRMED);
  const [, , one, two] = sent;
  expect(one?.publication.body.length).toBeLessThan(128 * 1024);
  expect(one?.publication.body.length).toBeGreaterThan(100 * 1024);
  expect(two?.ids[0]).toBe(`m${one?.ids.length}`);
});

it("each delay has its own messages", async () => {
  const { sent, check } = publisherOf(200);
  check("a");
  check("b", { delays: [5000] });
  await turn();
  check("c");
  check("d", { delays: [5000] });
  check("e");
  await turn();
  for (const each of [...sent]) await each.end(CONFIRMED);
  expect(sent.map(({ ids, publication: { to } }) => [ids, (to as { delayMs: number }).delayMs])).toEqual([
    [["a"], 1000],
    [["b"], 5000],
    [["c", "e"], 1000],
    [["d"], 5000]
  ]);
});

it.each(["returned", "nacked", "unknown"] as const)(
  "a message that is %s is that for each check in it, and for no other",
  async outcome => {
    const { sent, ends, check } = publisherOf(200);
    for (const id of ["a", "b"]) check(id);
    await turn();
    check("c");
    await turn();
    await sent[0]?.end({ outcome, reason: "so" });
    expect(Object.fromEntries(ends)).toEqual({ a: outcome, b: outcome });
    await sent[1]?.end(CONFIRMED);
    expect(ends.get("c")).toBe("confirmed");
  }
);

it("a message that RabbitMQ refuses is taken apart: what is refused alone is refused, its neighbours are sent", async () => {
  const { sent, ends, check } = publisherOf(200);
  for (const id of ["a", "bad", "worse", "b"]) check(id);
  await turn();
  await sent[0]?.end({ outcome: "refused", reason: "no" });
  expect(ends.size).toBe(0);
  expect(sent.slice(1).map(({ ids, publication: { type } }) => [ids, type])).toEqual(
    ["a", "bad", "worse", "b"].map(id => [[id], "order.created"])
  );
  await sent[1]?.end(CONFIRMED);
  await sent[2]?.end({ outcome: "refused", reason: "no" });
  await sent[3]?.fail(new ReliableError("RELIABLE_HEADERS_TOO_LARGE", "too large", {}));
  await sent[4]?.end(CONFIRMED);
  expect(Object.fromEntries(ends)).toEqual({
    ...{ a: "confirmed", bad: "refused", worse: "RELIABLE_HEADERS_TOO_LARGE", b: "confirmed" }
  });
});

it("more than a line may hold are told at once that they were not sent", async () => {
  const { sent, ends, check } = publisherOf(200);
  for (let n = 0; n < 20_400; n++) check(`m${n}`);
  await turn();
  expect(new Set(ends.values())).toEqual(new Set(["unknown"]));
  expect(ends.size).toBe(400);
  // The line moves on.
  await sent[0]?.end(CONFIRMED);
  check("later");
  while (!ends.has("later")) for (const each of sent.splice(0)) await each.end(CONFIRMED);
  expect(ends.get("later")).toBe("confirmed");
  expect(ends.size).toBe(20_401);
});

it("1: each check is a message of its own, as earlier versions read it", async () => {
  const { sent, check } = publisherOf(1);
  for (const id of ["a", "b", "c"]) check(id);
  await turn();
  expect(sent.map(({ ids, publication: { type } }) => [ids, type])).toEqual(
    ["a", "b", "c"].map(id => [[id], "order.created"])
  );
});

it("what is changed after a check was given does not change it", async () => {
  const { sent, check } = publisherOf(200);
  check("first");
  await turn();
  const message = { status: "intended" as const, intent: "barrier" as const, createdAt: new Date(1_700_000_000_000) };
  check("a", message);
  check("b");
  await sent[0]?.end(CONFIRMED);
  const [, { publication } = { publication: {} as Publication }] = sent;
  const [a, b] = parseChecks(publication);
  expect(a?.wire().headers).toMatchObject({ "x-reliable-intent": "barrier" });
  expect(b?.wire().headers).not.toHaveProperty("x-reliable-intent");
});
