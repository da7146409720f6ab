import { describe, expect, it } from "vitest";
import { encodable, unpacked } from "../../src/couriers/amqp/headers";
import { HEADER, parseEnvelope } from "../../src/wire/envelope";

/**
 * As amqplib reads them: every enumerable property of an object that has them as its prototype, without what is
 * undefined.
 */
function read(headers: Record<string, unknown>): Record<string, unknown> {
  const seen: Record<string, unknown> = {};
  const own = Object.create(headers) as Record<string, unknown>;
  for (const name in own) if (own[name] !== undefined) seen[name] = own[name];
  return seen;
}

describe("encodable headers", () => {
  it("read as the headers given, each time, when they are unpacked", () => {
    const first = { [HEADER.version]: 1, [HEADER.strategy]: "outbox", [HEADER.meta]: '{"a":1}' };
    const second = { [HEADER.tracing]: false, [HEADER.level]: 0, [HEADER.round]: 2 };
    expect(unpacked(read(encodable(first)))).toEqual(first);
    expect(unpacked(read(encodable(second)))).toEqual(second);
    expect(unpacked(read(encodable({})))).toEqual({});
  });

  it("travel as one, but for those that are JSON themselves or not ours alone", () => {
    const headers = { [HEADER.version]: 1, [HEADER.nodeID]: 'a "b" \\ é', [HEADER.tracing]: true };
    const single = {
      ...{ [HEADER.meta]: "{}", [HEADER.headers]: "{}", [HEADER.echo]: "{}" },
      ...{ [HEADER.traceparent]: "00-1", [HEADER.tracestate]: "a=1" }
    };
    expect(read(encodable({ ...headers, [HEADER.caller]: undefined, ...single }))).toEqual({
      "x-reliable": JSON.stringify({ version: 1, node: 'a "b" \\ é', tracing: true }),
      ...single
    });
  });

  it("travel by themselves where they are long: escaped they could outgrow what AMQP carries", () => {
    const long = { [HEADER.version]: 1, [HEADER.requestID]: '"'.repeat(4000) };
    expect(read(encodable(long))).toEqual(long);
  });

  it("are always the same object, which is what spares V8 the work", () => {
    expect(encodable({ [HEADER.attempt]: 1 })).toBe(encodable({ [HEADER.attempt]: 2 }));
  });

  it("with names that are not ours are left as they are", () => {
    const foreign = { [HEADER.version]: 1, "x-death": [{ count: 1 }] };
    expect(encodable(foreign)).toBe(foreign);
  });
});

describe("unpacked headers", () => {
  it("are beside those that came by themselves, and before one of the same name", () => {
    const came = { "x-reliable": '{"attempt":2}', [HEADER.attempt]: 1, "x-death": [] };
    expect(unpacked(came)).toEqual({ [HEADER.attempt]: 2, "x-death": [] });
  });

  it.each([
    ...["", "{", "null", "[1]", "7", '"text"', '{"attempt":null}', '{"attempt":{}}', '{"a":[[1]]}', 7, null, {}]
  ])("stay as they came where they cannot be: %j", value => {
    const came = { "x-reliable": value, [HEADER.version]: 1 };
    expect(unpacked(came)).toBe(came);
    expect(() => parseEnvelope({ messageId: "1", type: "a", headers: came, body: Buffer.from("{}") })).toThrow(
      "x-reliable is no JSON object of texts, numbers and booleans"
    );
  });

  it("have no name that is a prototype's", () => {
    const all = unpacked({ "x-reliable": '{"__proto__":1,"constructor":2}' });
    expect(Object.getPrototypeOf(all)).toBe(Object.prototype);
    expect(all).toEqual({ "x-reliable-__proto__": 1, "x-reliable-constructor": 2 });
  });
});
