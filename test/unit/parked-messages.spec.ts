import { describe, expect, it } from "vitest";
import type { Delivery } from "../../src/couriers/courier";
import {
  isParkedMessage,
  MAX_PARKED_BYTES,
  MAX_PARKED_HEADERS,
  toParked,
  toParkedMessage,
  toShortMessage
} from "../../src/inbound/parked-messages";
import { systemClock } from "../../src/platform/clock";
import { encodeParked } from "../../src/stores/documents/codec";

const NODE = { nodeID: "node-1", clock: systemClock };

function deliveryOf(fields: Partial<Delivery>): Delivery {
  return { queue: "q", epoch: 1, tag: 1, headers: {}, body: Buffer.alloc(0), ...fields } as Delivery;
}

/** What AMQP's headers become in the worst case: deep, of odd types, and large as JSON. */
function oddHeaders(): Record<string, unknown> {
  let deep: unknown = "end";
  for (let i = 0; i < 20_000; i++) deep = { a: deep };
  return { deep, big: 2n ** 60n, nan: Number.NaN, "$a.b": Buffer.from("abc"), date: new Date(0), list: [1, [2n]] };
}

describe("parked messages", () => {
  it("any header is kept as JSON, and cut where it is too deep or too long", () => {
    const { headers } = toParked(deliveryOf({ headers: oddHeaders() }), "r", NODE, "run");
    expect(headers).toMatchObject({
      big: "1152921504606846976",
      nan: "NaN",
      "$a.b": { "!": "bytes", base64: "YWJj" },
      list: [1, ["2"]]
    });
    expect(JSON.stringify(headers["deep"])).toMatch(/^(\{"a":){30,32}"…"\}+$/);
    const long = { a: Buffer.alloc(120_000), b: 1n };
    const { raw } = toParked(deliveryOf({ headers: long }), "r", NODE, "run").headers;
    expect((raw as string).length).toBe(MAX_PARKED_HEADERS);
  });

  it.each(["bad\u001b[2J", "order\u202e1"])("an id that nobody can type is no part of the row's: %j", messageId => {
    const { _id, properties } = toParked(deliveryOf({ messageId }), "r", NODE, "run");
    expect(_id).toBe("q#node-1#run#1#1");
    expect(properties["messageId"]).toBe(messageId);
  });

  it("a row is far below 16 MiB, whatever comes", () => {
    const control = "\u0001".repeat(100_000);
    const parked = {
      type: "reliable.parked",
      messageId: "m",
      headers: {
        "x-reliable-reason": control,
        "x-reliable-queue": control,
        "x-reliable-node": control,
        "x-reliable-properties": JSON.stringify({ control }),
        "x-reliable-headers": control
      }
    };
    for (const fields of [{ headers: { control } }, parked]) {
      const body = Buffer.alloc(16 * 1024 * 1024, "x");
      const row = encodeParked(toParked(deliveryOf({ ...fields, body }), control, NODE, "run"));
      expect((row["body"] as Buffer).length).toBe(MAX_PARKED_BYTES);
      expect(JSON.stringify({ ...row, body: "" }).length).toBeLessThan(2 * 1024 * 1024);
    }
  });

  it("text is cut between two characters", () => {
    const { body, cut } = toParked(deliveryOf({ body: Buffer.from(`x${"€".repeat(2_000_000)}`) }), "r", NODE, "run");
    expect(body.toString()).toMatch(/^x€+$/);
    expect(cut?.bytes).toBe(6_000_001);
  });

  it("a cut message says what the whole was, on its way and after it; the short form fits into 4 KiB", () => {
    const found = { queue: "q", body: Buffer.alloc(5_000_000, "b"), headers: oddHeaders(), properties: { type: "t" } };
    const message = toParkedMessage("parked", "node-1", "r".repeat(5000), found);
    expect(Buffer.byteLength(JSON.stringify(message.headers))).toBeLessThan(60 * 1024);
    const { type, messageId, headers, body } = message;
    const kept = toParked(deliveryOf({ type, messageId, headers, body }), "r", NODE, "run");
    const whole = toParked(deliveryOf({ body: found.body }), "r", NODE, "run").cut;
    expect(kept).toMatchObject({ cut: whole, queue: "q", properties: { type: "t" }, headers: { "$a.b": {} } });
    const short = toShortMessage(message, "501 FRAME_ERROR".repeat(100));
    expect(Buffer.byteLength(JSON.stringify(short.headers))).toBeLessThan(2048);
    const keptShort = toParked(
      deliveryOf({ type, messageId, headers: short.headers, body: short.body }),
      "r",
      NODE,
      "r"
    );
    expect([keptShort.cut, keptShort.body.length]).toEqual([whole, 1024]);
  });

  it.each([
    [{ "x-reliable-bytes": 7 }, false],
    [{ "x-reliable-bytes": "7", "x-reliable-sha256": "a".repeat(64) }, false],
    [{ "x-reliable-bytes": 7, "x-reliable-sha256": "a".repeat(63) }, false],
    [{ "x-reliable-bytes": 7, "x-reliable-sha256": "a".repeat(64) }, true]
  ])("length and digest go together: %j", (more, expected) => {
    const { type, messageId, headers } = toParkedMessage("p", "n", "r", { queue: "q", body: Buffer.alloc(1) });
    expect(isParkedMessage({ type, messageId, headers: { ...headers, ...more } })).toBe(expected);
    expect(isParkedMessage({ type, messageId: "a\u0007", headers })).toBe(false);
  });
});
