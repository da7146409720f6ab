import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { HttpError } from "../../src/dashboard/http-error";
import { bodyOf, checkActor, checkLoopbackHost, checkReader, paramsOf } from "../../src/dashboard/requests";
import { errorOf } from "../support/services";

const PAGE: Record<string, string | undefined> = {
  host: "ops.example.com",
  origin: "https://ops.example.com",
  "x-reliable-dashboard": "1",
  "content-type": "application/json",
  "sec-fetch-site": "same-origin"
};

const requestOf = (headers: Record<string, string | undefined>) => ({ headers }) as unknown as IncomingMessage;

const withHeaders = (changed: Record<string, string | undefined>) => requestOf({ ...PAGE, ...changed });

async function statusOf(work: (() => unknown) | Promise<unknown>): Promise<number> {
  const error = await errorOf(work);
  expect(error).toBeInstanceOf(HttpError);
  return (error as unknown as HttpError).status;
}

describe("an act is taken from the page itself", () => {
  it.each<[string, Record<string, string | undefined>]>([
    ["as a browser sends it", {}],
    ["without sec-fetch-site, which http has not", { "sec-fetch-site": undefined, origin: "http://ops.example.com" }],
    ["with a charset", { "content-type": "application/json; charset=utf-8" }],
    ["with a port", { host: "localhost:3400", origin: "http://localhost:3400" }],
    ["with the port that the scheme has", { host: "ops.example.com:443" }],
    ["in other letters", { host: "OPS.example.com" }],
    ["of IPv6", { host: "[::1]:3400", origin: "http://[::1]:3400" }],
    ["over HTTP/2", { host: undefined, ":authority": "ops.example.com" }]
  ])("%s", (_, changed) => {
    expect(() => checkActor(withHeaders(changed), [])).not.toThrow();
  });

  it("and from an origin that is named", () => {
    const behindProxy = withHeaders({ host: "127.0.0.1:3400" });
    expect(() => checkActor(behindProxy, ["https://ops.example.com"])).not.toThrow();
  });
});

it.each<[string, Record<string, string | undefined>, number]>([
  ["another site", { origin: "https://evil.example", "sec-fetch-site": undefined }, 403],
  ["a site under the same domain", { origin: "https://www.example.com" }, 403],
  ["another port of the host", { origin: "https://ops.example.com:8443" }, 403],
  ["a name that begins so", { origin: "https://ops.example.com.evil.example" }, 403],
  ["a name with ours before an @", { origin: "https://ops.example.com@evil.example" }, 403],
  ["a frame without an origin", { origin: "null" }, 403],
  ["one who sends no origin", { origin: undefined }, 403],
  ["an empty origin", { origin: "" }, 403],
  ["an origin of another kind", { origin: "file://ops.example.com" }, 403],
  ["two origins", { origin: "https://ops.example.com, https://evil.example" }, 403],
  ["no host", { host: undefined }, 403],
  ["a form: no header of ours", { "x-reliable-dashboard": undefined }, 403],
  ["another value of it", { "x-reliable-dashboard": "0" }, 403],
  ["what the browser calls cross-site", { "sec-fetch-site": "cross-site" }, 403],
  ["what it calls same-site", { "sec-fetch-site": "same-site" }, 403],
  ["an address that was typed", { "sec-fetch-site": "none" }, 403],
  ["text", { "content-type": "text/plain" }, 415],
  ["a form's body", { "content-type": "application/x-www-form-urlencoded" }, 415],
  ["JSON in the name alone", { "content-type": "text/plain; application/json" }, 415],
  ["no type", { "content-type": undefined }, 415],
  ["a compressed body", { "content-encoding": "gzip" }, 415]
])("an act is refused from %s", async (_, changed, status) => {
  expect(await statusOf(() => checkActor(withHeaders(changed), ["https://other.example"]))).toBe(status);
});

it("what is refused for its origin is told what helps", async () => {
  const { message } = await errorOf(() => checkActor(withHeaders({ host: "10.0.0.7:3400" }), []));
  expect(message).toContain("https://ops.example.com");
  expect(message).toContain("10.0.0.7:3400");
  expect(message).toContain("'origins'");
});

it("a read is refused from another site only", async () => {
  for (const site of [undefined, "same-origin", "none"])
    expect(() => checkReader(requestOf({ "sec-fetch-site": site }))).not.toThrow();
  for (const site of ["cross-site", "same-site", "new-word"])
    expect(await statusOf(() => checkReader(requestOf({ "sec-fetch-site": site })))).toBe(403);
});

it.each(["localhost", "localhost:3400", "127.0.0.1:3400", "127.8.8.8", "[::1]:3400", "LOCALHOST", "ops.localhost"])(
  "on a loopback address %s is asked",
  host => {
    expect(() => checkLoopbackHost(requestOf({ host }), [])).not.toThrow();
  }
);

it.each([
  "evil.example",
  "evil.example:3400",
  "127.0.0.1.evil.example",
  "localhost.evil.example",
  "10.0.0.7",
  "0.0.0.0:3400",
  "",
  "a b",
  undefined
])("on a loopback address %s is refused: any name can be made to point there", async host => {
  expect(await statusOf(() => checkLoopbackHost(requestOf({ host }), []))).toBe(403);
});

it("a proxy's name is asked where it is named", () => {
  const origins = ["https://ops.example.com"];
  expect(() => checkLoopbackHost(requestOf({ host: "ops.example.com" }), origins)).not.toThrow();
});

function withBody(chunks: (string | Buffer)[], headers: Record<string, string> = {}): IncomingMessage {
  return Object.assign(Readable.from(chunks.map(chunk => Buffer.from(chunk))), {
    headers
  }) as unknown as IncomingMessage;
}

describe("a body", () => {
  it("may come in any pieces", async () => {
    const bytes = Buffer.from('{"note":"Zoë"}');
    const pieces = [...bytes].map(byte => Buffer.from([byte]));
    expect(await bodyOf(withBody(pieces))).toEqual({ note: "Zoë" });
  });

  it.each<[string, string, number]>([
    ["nothing", "", 400],
    ["not JSON", "{note:1}", 400],
    ["a list", "[]", 400],
    ["null", "null", 400],
    ["text", '"text"', 400],
    ["a prototype", '{"__proto__":{"by":"x"}}', 400],
    ["a prototype further down", '{"filter":{"__proto__":{}}}', 400],
    ["too long", `{"note":"${"x".repeat(64 * 1024)}"}`, 413]
  ])("%s is refused", async (_, text, status) => {
    expect(await statusOf(bodyOf(withBody([text])))).toBe(status);
  });

  it("that says it is too long is not read", async () => {
    const req = withBody(["{}"], { "content-length": "65537" });
    expect(await statusOf(bodyOf(req))).toBe(413);
    expect(req.readableFlowing).toBeNull();
  });

  it("that quotes nothing of itself in the error", async () => {
    const { message } = await errorOf(bodyOf(withBody(['{"card":"4111 1111"'])));
    expect(message).not.toContain("4111");
  });

  it("that does not end is given up", async () => {
    const endless = Object.assign(new Readable({ read: () => undefined }), { headers: {} });
    expect(await statusOf(bodyOf(endless as unknown as IncomingMessage, 10))).toBe(408);
  });

  it("whose sender is gone is given up", async () => {
    const gone = Object.assign(new Readable({ read: () => undefined }), { headers: {} });
    const status = statusOf(bodyOf(gone as unknown as IncomingMessage));
    gone.destroy();
    expect(await status).toBe(400);
  });

  it("that a middleware has read is taken from it, under the same rules", async () => {
    const parsed = async (body: unknown) => {
      const req = withBody(["{}"]);
      for await (const _ of req as unknown as AsyncIterable<Buffer>);
      return bodyOf(Object.assign(req, { body }));
    };
    expect(await parsed({ note: "x" })).toEqual({ note: "x" });
    expect(await statusOf(parsed("text"))).toBe(400);
    expect(await statusOf(parsed(undefined))).toBe(400);
    expect(await statusOf(parsed({ note: "x".repeat(70_000) }))).toBe(413);
    expect(await statusOf(parsed(JSON.parse('{"__proto__":{}}')))).toBe(400);
  });
});

it("params come once, as a JSON object", async () => {
  expect(paramsOf(new URLSearchParams(""))).toEqual({});
  expect(paramsOf(new URLSearchParams({ params: '{"id":"a"}' }))).toEqual({ id: "a" });
  for (const query of ["params=[]", "params=x", "params={}&params={}", 'params={"__proto__":1}'])
    expect(await statusOf(() => paramsOf(new URLSearchParams(query)))).toBe(400);
});
