import { describe, expect, it } from "vitest";
import type { Message } from "../../src/message/message";
import { parseCheck } from "../../src/wire/check";
import { encodeChecks, MAX_CHECKS_READ, type OutgoingCheck, parseChecks } from "../../src/wire/checks";
import { HEADER, headersOf, type Wire } from "../../src/wire/envelope";
import { Unreadable } from "../../src/wire/json";
import { encodePlan, ownPlanOf, sharedPlanOf } from "../../src/wire/plan";
import { messageOf } from "../support/messages";

const DELAYS = [1000, 2000];
const BACKOFF = { initialMs: 500, maxMs: 1000, jitter: "none" as const };
const NOW = new Date(1_700_000_005_000);

const emitted = (n: number, more: Partial<Message> = {}) =>
  messageOf({
    ...{ _id: `m${n}`, event: `order.e${n % 2}`, strategy: "callback", producer: "orders", maxAttempts: 2 },
    ...{ delays: DELAYS, backoff: BACKOFF, createdAt: new Date(1_700_000_000_000 + n), origin: { nodeID: "node-1" } },
    body: Buffer.from(JSON.stringify({ n, text: "Zoë\n{" })),
    ...more
  });

function outgoing(message: Message): OutgoingCheck {
  const headers = headersOf(message, 1, [], "receipts");
  headers[HEADER.round] = 1;
  if (message.status === "intended") headers[HEADER.intent] = message.intent;
  return {
    ...{ id: message._id, event: message.event, at: message.createdAt.getTime(), body: message.body, headers },
    ...{ plan: sharedPlanOf(message), own: ownPlanOf(message) }
  };
}

const alone = (message: Message): Wire => {
  const { id, event, body, headers } = outgoing(message);
  return { messageId: id, type: event, body, headers: { ...headers, [HEADER.echo]: encodePlan(message) } };
};

const sent = (body: Buffer, count: number, more: Partial<Wire> = {}): Wire => ({
  ...{ messageId: "batch", type: "reliable.checks", headers: { [HEADER.version]: 1, [HEADER.count]: count }, body },
  ...more
});

const rowOf = (wire: Wire) => parseCheck(wire, () => ["mail"], NOW);

describe("checks in one message", () => {
  it("are each what they would have been alone, byte for byte", () => {
    const messages = [
      emitted(1),
      emitted(2, { groups: ["mail"], keys: ["order=42"], meta: { user: "Zoë" } }),
      emitted(3, { maxAttempts: 7, unroutableMs: 5 }),
      emitted(4, { backoff: { ...BACKOFF, maxMs: 9000 }, producer: "till", origin: { nodeID: "node-2", level: 3 } }),
      emitted(5, { source: { action: "orders.find", params: { id: 7 } }, body: Buffer.alloc(0) }),
      emitted(6, { status: "intended", intent: "barrier", origin: { nodeID: "node-1", requestID: "r-6" } }),
      emitted(7, { resend: "copy", encoded: true, headers: { tenant: "a" } })
    ];
    for (const first of [0, 2, 5]) {
      const turned = [...messages.slice(first), ...messages.slice(0, first)];
      const items = parseChecks(sent(encodeChecks(turned.map(outgoing)), turned.length));
      expect(items.map(({ number }) => number)).toEqual(turned.map((_, i) => i + 1));
      turned.forEach((message, i) => {
        const item = items[i];
        expect(item).toMatchObject({
          id: message._id,
          event: message.event,
          at: message.createdAt.getTime(),
          round: 1
        });
        expect(rowOf(item?.wire() as Wire)).toEqual(rowOf(alone(message)));
      });
    }
  });

  it("say once what all have in common", () => {
    const body = encodeChecks(Array.from({ length: 100 }, (_, n) => outgoing(emitted(n))));
    const line = body.subarray(0, body.indexOf("\n")).toString();
    for (const once of ["x-reliable-producer", "x-reliable-node", "delays", "x-reliable-round"])
      expect(line.split(once)).toHaveLength(2);
    expect(line.length).toBeLessThan(8000);
  });
});

const line = (value: unknown, bodies = ""): Buffer => Buffer.from(`${JSON.stringify(value)}\n${bodies}`);
const plan = { v: 1, delays: DELAYS, max: 2, backoff: BACKOFF };
const headers = {
  ...{ [HEADER.version]: 1, [HEADER.attempt]: 1, [HEADER.receipt]: "r", [HEADER.producer]: "orders", [HEADER.round]: 1 }
};
const item = { id: "a", type: "order.created", at: 1_700_000_000_000, bytes: 2 };
const batch = (more: object = {}, items: unknown[] = [item]) => ({ v: 1, plan, headers, items, ...more });

describe("what a stranger sends", () => {
  const whole: [what: string, wire: Wire, reason: RegExp][] = [
    ["without a version", sent(line(batch(), "{}"), 1, { headers: { [HEADER.count]: 1 } }), /x-reliable-version/],
    ["without an id", sent(line(batch(), "{}"), 1, { messageId: undefined }), /without a messageId/],
    ["with an id for terminals", sent(line(batch(), "{}"), 1, { messageId: "a\u001bb" }), /without a messageId/],
    ["without a first line", sent(Buffer.from("{}"), 1), /without a first line/],
    ["whose line is no JSON", sent(Buffer.from("{\n{}"), 1), /not JSON/],
    ["whose line is null", sent(line(null), 1), /unknown version/],
    ["of another version", sent(line(batch({ v: 2 }), "{}"), 1), /unknown version 2/],
    ["without a plan", sent(line(batch({ plan: undefined }), "{}"), 1), /bad plan or headers/],
    [
      "with a plan that is copied to each and large",
      sent(line(batch({ plan: { x: "y".repeat(9000) } }), "{}"), 1),
      /bad plan/
    ],
    ["with headers of nonsense", sent(line(batch({ headers: [1] }), "{}"), 1), /bad plan or headers/],
    ["without items", sent(line(batch({}, [])), 0), /without items/],
    ["with too many", sent(line(batch({}, Array(MAX_CHECKS_READ + 1).fill({ bytes: 0 }))), 1001), /more than 1000/],
    ["that counts wrongly", sent(line(batch(), "{}"), 2), /1 checks, 2 by x-reliable-count/],
    ["with an item of nonsense", sent(line(batch({}, [7]), "{}"), 1), /check 1 of 1 without its number of bytes/],
    ["with a negative length", sent(line(batch({}, [{ ...item, bytes: -1 }]), ""), 1), /without its number of bytes/],
    ["with a length beyond all", sent(line(batch({}, [{ ...item, bytes: 1e308 }]), "{}"), 1), /do not add up/],
    ["with a byte too few", sent(line(batch(), "{"), 1), /do not add up/],
    ["with a byte too many", sent(line(batch(), "{} "), 1), /do not add up/],
    ["larger than any", sent(Buffer.alloc(1024 * 1024 + 1, 10), 1), /more than 1048576/]
  ];

  it.each(whole)("%s is refused as a whole", (_, wire, reason) => {
    expect(() => parseChecks(wire)).toThrow(Unreadable);
    expect(() => parseChecks(wire)).toThrow(reason);
  });

  const bad: [what: string, item: object, reason: RegExp][] = [
    ["without an id", { id: undefined }, /no id/],
    ["with an id that nothing could send again", { id: "x".repeat(256) }, /no id/],
    ["with an id for terminals", { id: "a\u202eb" }, /no id/],
    ["without a type", { type: "" }, /no type/],
    ["without a time", { at: undefined }, /bad at/],
    ["with a time that is no date", { at: 1e300 }, /bad at/],
    ["with headers of nonsense", { headers: "x" }, /bad headers/],
    ["with a plan of nonsense", { plan: [] }, /bad plan/],
    ["with a round of nonsense", { headers: { [HEADER.round]: -1 } }, /x-reliable-round/]
  ];

  it.each(bad)("one %s is bad by itself, the others are not", (_, more, reason) => {
    const items = parseChecks(sent(line(batch({}, [item, { ...item, ...more }, { ...item, id: "c" }]), "{}[]{}"), 3));
    expect(items.map(({ fault }) => fault)).toEqual([undefined, expect.stringMatching(reason), undefined]);
    expect(items.map(({ body }) => String(body))).toEqual(["{}", "[]", "{}"]);
    expect(rowOf(items[2]?.wire() as Wire).row._id).toBe("c");
  });

  const late: [what: string, item: object, reason: RegExp][] = [
    ["with a plan that is too large", { plan: { keys: ["x=".padEnd(70_000, "y")] } }, /plan too large/],
    ["with headers that are too large", { headers: { [HEADER.meta]: "y".repeat(70_000) } }, /headers too large/],
    ["whose plan is none", { plan: { max: 0 } }, /lacks at, max or delays/],
    ["whose header is of another type", { headers: { [HEADER.producer]: {} } }, /bad x-reliable-producer/],
    ["without payload and source", { bytes: 0 }, /without payload and without source/]
  ];

  it.each(late)("one %s is told when it is needed", (_, more, reason) => {
    const own = { ...item, ...more };
    const [one] = parseChecks(sent(line(batch({}, [own]), own.bytes ? "{}" : ""), 1));
    expect(() => rowOf(one?.wire() as Wire)).toThrow(Unreadable);
    expect(() => rowOf(one?.wire() as Wire)).toThrow(reason);
  });

  it("a plan nested deeper than the call stack is too large, and names of prototypes change nothing", () => {
    const deep = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;
    const text = JSON.stringify(batch({}, [{ ...item, plan: { source: "DEEP" } }])).replace('"DEEP"', deep);
    const [one] = parseChecks(sent(Buffer.from(`${text}\n{}`), 1));
    expect(() => one?.wire()).toThrow(/plan too large/);
    const own = `{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}`;
    const poisoned = JSON.stringify(batch({}, [{ ...item, headers: "OWN", plan: "OWN" }])).replaceAll('"OWN"', own);
    const [other] = parseChecks(sent(Buffer.from(`${poisoned}\n{}`), 1));
    expect(rowOf(other?.wire() as Wire).row._id).toBe("a");
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it("whatever is changed in a message, its checks are read, bad by themselves, or refused as a whole", () => {
    const good = encodeChecks([1, 2, 3, 4].map(n => outgoing(emitted(n, n === 2 ? { meta: { a: 1 } } : {}))));
    let seed = 7;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
      return (seed >>> 8) % below;
    };
    const ends = { read: 0, bad: 0, refused: 0 };
    for (let run = 0; run < 1500; run++) {
      const body = Buffer.from(good);
      for (let changes = random(3) + 1; changes; changes--) body[random(body.length)] = random(256);
      const cut = random(4) ? body : body.subarray(0, random(body.length));
      try {
        const items = parseChecks(sent(cut, 4));
        expect(items).toHaveLength(4);
        const length = items.reduce((sum, one) => sum + one.body.length, 0);
        expect(length).toBe(cut.length - cut.indexOf("\n") - 1);
        for (const one of items) {
          try {
            if (one.fault) ends.bad++;
            else if (rowOf(one.wire())) ends.read++;
          } catch (error) {
            expect(error).toBeInstanceOf(Unreadable);
            ends.bad++;
          }
        }
      } catch (error) {
        expect(error, (error as Error).stack).toBeInstanceOf(Unreadable);
        ends.refused++;
      }
    }
    expect(Math.min(...Object.values(ends))).toBeGreaterThan(50);
  });
});
