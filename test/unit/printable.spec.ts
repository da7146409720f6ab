import { expect, it } from "vitest";
import { printableLogger } from "../../src/platform/logger";
import { hasControl, printable, printableLines } from "../../src/platform/printable";
import { parseObject } from "../../src/wire/json";

it.each(["\u0000", "\n", "\r", "\t", "\u001b", "\u007f", "\u0085", "\u009b", "\u2028", "\u2029"])(
  "%j is no part of a name, and is shown escaped",
  char => {
    expect(hasControl(`a${char}b`)).toBe(true);
    expect(printable(`a${char}b`)).toBe(`a\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}b`);
  }
);

it("leaves what people write as it is, and turns no direction of writing", () => {
  for (const text of ["order.created", "größe ü€😀 日本 ", "a-b_c:d/e"]) {
    expect(hasControl(text)).toBe(false);
    expect(printable(text)).toBe(text);
  }
  expect(printable("a\u202eb\u2066")).toBe("a\\u202eb\\u2066");
});

it("keeps line ends and tabs where they are ours", () => {
  expect(printableLines("a\n\tb\r\u001b[2J")).toBe("a\n\tb\\u000d\\u001b[2J");
});

it("a log line is one line; the lines of a stack stay", () => {
  const lines: unknown[][] = [];
  const log = (...args: unknown[]) => void lines.push(args);
  const logger = printableLogger({ error: log, warn: log, info: log, debug: log });
  const error = new Error("no\u001b[31m");
  for (const level of ["error", "warn", "info", "debug"] as const)
    logger[level]("id a\nFORGED\u001b[2J", error, { n: 1 });
  expect(lines).toHaveLength(4);
  for (const [text, stack, data] of lines) {
    expect(text).toBe("id a\\u000aFORGED\\u001b[2J");
    expect(stack).toMatch(/^Error: no\\u001b\[31m\n +at /);
    expect(data).toEqual({ n: 1 });
  }
});

it.each([
  ["plain", '{"user":{"id":1}}', { user: { id: 1 } }],
  ["a prototype", '{"a":1,"__proto__":{"isAdmin":true}}', { a: 1 }],
  [
    "one that is written with escapes",
    '{"\\u005f_proto__":{"isAdmin":true},"b":[{"constructor":{"x":1},"c":2}]}',
    { b: [{ c: 2 }] }
  ],
  ["one further down", '{"a":{"prototype":{"x":1},"b":null}}', { a: { b: null } }]
])("an object from the wire: %s", (_, json, expected) => {
  const value = parseObject(json, "x-reliable-meta");
  expect(value).toEqual(expected);
  expect(JSON.stringify(value)).toBe(JSON.stringify(expected));
  expect(Object.getPrototypeOf(Object.assign({}, value))).toBe(Object.prototype);
});
