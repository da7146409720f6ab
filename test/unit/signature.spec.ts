import { expect, it } from "vitest";
import { Signatures } from "../../src/inbound/signatures";
import { readOptions } from "../../src/options/resolve";
import { systemClock } from "../../src/platform/clock";
import { Metrics } from "../../src/telemetry/metrics";
import { type Kind, kindOf, type Signed, signatureOf, verdictOf } from "../../src/wire/signature";

const KEY = "0123456789abcdef0123456789abcdef";
const OTHER = "another-key-another-key-another-k";

const MESSAGE: Signed = {
  messageId: "order-1",
  type: "order.created",
  appId: "orders",
  headers: {
    "x-reliable-version": 1,
    "x-reliable-attempt": 1,
    "x-reliable-receipt": "reliable.receipts.outbox",
    "x-reliable-producer": "orders",
    "x-reliable-meta": '{"user":"Zoë"}'
  },
  body: Buffer.from('{"total":12}')
};

/** The test vector of docs/wire-contract.md. */
const SIGNATURE = "dqMj0YQdpUgV0zcgGczk+p4T+s/N/Ge2X+GjHXa8tD0=";

const signed = (message: Signed, kind: Kind = "event", key = KEY): Signed => ({
  ...message,
  headers: { ...message.headers, "x-reliable-signature": signatureOf(kind, message, key) }
});

it("is that of the contract's test vector", () => {
  expect(signatureOf("event", MESSAGE, KEY)).toBe(SIGNATURE);
});

it.each<[string, (message: Signed) => Signed]>([
  ["id", message => ({ ...message, messageId: "order-2" })],
  ["type", message => ({ ...message, type: "order.paid" })],
  ["producer", message => ({ ...message, appId: "stock" })],
  ["body", message => ({ ...message, body: Buffer.from('{"total":13}') })],
  ["a header", message => ({ ...message, headers: { ...message.headers, "x-reliable-attempt": 2 } })],
  ["one more header", message => ({ ...message, headers: { ...message.headers, "x-reliable-echo": "{}" } })],
  ["one header less", message => ({ ...message, headers: { ...message.headers, "x-reliable-meta": undefined } })],
  [
    "a border moved between name and value",
    message => {
      const { "x-reliable-producer": _, ...headers } = message.headers;
      return { ...message, headers: { ...headers, "x-reliable-producer,6:orders": "" } };
    }
  ]
])("with another %s it is wrong", (_, change) => {
  expect(verdictOf("event", signed(MESSAGE), [KEY])).toBe("right");
  expect(verdictOf("event", change(signed(MESSAGE)), [KEY])).toBe("wrong");
});

it("does not depend on what only informs, nor on what RabbitMQ adds", () => {
  const message = signed(MESSAGE);
  Object.assign(message.headers, {
    "x-death": [{ queue: "q" }],
    "x-delivery-count": 3,
    "x-reliable-groups": "mail",
    "x-reliable-returned": 1,
    traceparent: "00-…"
  });
  expect(verdictOf("event", message, [KEY])).toBe("right");
});

it("is of one kind, and of one of the keys", () => {
  expect(verdictOf("receipt", signed(MESSAGE), [KEY])).toBe("wrong");
  expect(verdictOf("event", signed(MESSAGE), [OTHER, KEY])).toBe("right");
  expect(verdictOf("event", signed(MESSAGE), [OTHER])).toBe("wrong");
  expect(verdictOf("event", MESSAGE, [KEY])).toBe("unsigned");
  expect(verdictOf("event", { ...MESSAGE, headers: { "x-reliable-signature": 5 } }, [KEY])).toBe("unsigned");
});

it("knows its own kinds", () => {
  const of = (type: string, headers = {}) => kindOf({ type, headers });
  expect(
    ["reliable.receipt", "reliable.withdrawal", "reliable.announcement", "reliable.parked"].map(type => of(type))
  ).toEqual(["receipt", "withdrawal", "announcement", "parked"]);
  expect([of("order.created"), of("order.created", { "x-reliable-round": 1 })]).toEqual(["event", "check"]);
});

it("signs and checks; without require what is unsigned is counted alone", () => {
  const metrics = new Metrics();
  const open = new Signatures({ keys: [KEY], required: false, metrics, clock: systemClock });
  const strict = new Signatures({ keys: [OTHER, KEY], required: true, metrics, clock: systemClock });
  const sent = open.sign({ to: { event: "order.created" }, ...MESSAGE } as never);
  const delivery = { ...sent, queue: "q" } as never;
  expect(() => strict.check(delivery, "event")).not.toThrow();
  expect(strict.lastUnsignedAt).toBeUndefined();
  const bare = { ...MESSAGE, queue: "q" } as never;
  open.check(bare, "event");
  expect(open.text).toMatch(/^signs \(last unsigned: 20/);
  expect(() => strict.check(bare, "event")).toThrow("event without a signature");
  expect(() => strict.check(delivery, "check")).toThrow("check whose signature fits no key");
  expect(metrics.totals["unsigned"]).toBe(3);
});

it("a key that is too short is refused, and not told", () => {
  for (const signingKey of ["short-secret", ["short-secret"], []])
    expect(() => readOptions({ signingKey }, {}, {})).toThrow(/signingKey/);
  try {
    readOptions({ signingKey: "short-secret" }, {}, {});
  } catch (error) {
    expect(`${(error as Error).message}${JSON.stringify(error)}`).not.toContain("short-secret");
  }
});
