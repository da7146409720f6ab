import { describe, expect, it } from "vitest";
import { encodable } from "../../src/couriers/amqp/headers";
import { HEADER } from "../../src/wire/envelope";

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
  it("read as the headers given, each time", () => {
    const first = { [HEADER.version]: 1, [HEADER.strategy]: "outbox", [HEADER.meta]: '{"a":1}' };
    const second = { [HEADER.tracing]: false, [HEADER.level]: 0, [HEADER.round]: 2 };
    expect(read(encodable(first))).toEqual(first);
    expect(read(encodable(second))).toEqual(second);
    expect(read(encodable({}))).toEqual({});
  });

  it("are always the same object, which is what spares V8 the work", () => {
    expect(encodable({ [HEADER.attempt]: 1 })).toBe(encodable({ [HEADER.attempt]: 2 }));
  });

  it("with names that are not ours are left as they are", () => {
    const foreign = { [HEADER.version]: 1, "x-death": [{ count: 1 }] };
    expect(encodable(foreign)).toBe(foreign);
  });
});
