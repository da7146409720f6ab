import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { ReliableError, redact, sanitizeError } from "../../src/errors";

const SECRET = "s3cret";

describe("what is kept of a driver's error", () => {
  it("is its name, texts and code, and nothing of the request", () => {
    // ioredis' ReplyError has the command on it, MongoDB's the documents.
    const reply = Object.assign(new Error("WRONGPASS invalid username-password pair"), {
      name: "ReplyError",
      code: "WRONGPASS",
      command: { name: "auth", args: ["default", SECRET] },
      writeErrors: [{ err: { op: { meta: SECRET } } }],
      cause: Object.assign(new Error(`amqp://a:${SECRET}@host`), { op: SECRET })
    });
    const error = new ReliableError("RELIABLE_ACCESS_REFUSED", "refused", { option: "redis" }, reply);
    expect(error.cause).toMatchObject({
      name: "ReplyError",
      message: reply.message,
      code: "WRONGPASS",
      cause: { message: "amqp://***@host" }
    });
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(SECRET);
  });

  it("is all of an error of ours", () => {
    const error = new ReliableError("RELIABLE_DEAD", "dead", { id: "1" });
    expect(sanitizeError(error)).toBe(error);
  });

  it.each([
    ["a text", "a text"],
    [undefined, "undefined"],
    [{ a: 1 }, "[object Object]"]
  ])("of %j is an Error", (thrown, message) => {
    expect(sanitizeError(thrown)).toMatchObject({ message });
  });
});

it.each([
  [`amqp://user:${SECRET}@host:5672`, "amqp://***@host:5672"],
  [`redis://:p/${SECRET}@host`, "redis://***@host"],
  [`mongodb://user:p@ss@${SECRET}@host/db`, "mongodb://***@host/db"],
  [
    `cannot connect to "amqp://a:${SECRET}@one" nor amqp://b:${SECRET}@two now`,
    'cannot connect to "amqp://***@one" nor amqp://***@two now'
  ],
  ["https://host/path", "https://host/path"],
  [`a://b c://u:${SECRET}@d e@f g://h`, "a://b c://***@d e@f g://h"],
  [`x://${SECRET}@`, "x://***@"],
  ["://", "://"]
])("%s is masked", (text, masked) => {
  expect(redact(text)).toBe(masked);
});
