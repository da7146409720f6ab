import { connect } from "node:net";
import { Errors } from "moleculer";
import { expect, it } from "vitest";
import { ReliableError, ReliableRetryableError } from "../../src";
import { ACT_CALLS, READS } from "../../src/dashboard/api";
import { readAssets } from "../../src/dashboard/assets";
import { served } from "../support/dashboard";
import { act, actHeaders, ask, errorIn, read, SAFE_HEADERS } from "../support/web";

const ANYBODY = { access: "anonymous" } as const;

it.each([
  ["no answer", new Errors.RequestTimeoutError({ action: "reliable.bulks" } as never)],
  ["a node that goes", new Errors.RequestRejectedError({ action: "reliable.bulks" } as never)]
])("a read is asked of a second node after %s; an act is not", async (_, error) => {
  let asked = 0;
  const once = () => {
    if (asked++ === 0) throw error;
    return { rows: [] };
  };
  const { port, calls } = await served(ANYBODY, { bulks: once, sweep: once });
  expect(await read(port, "/api/bulks", {})).toMatchObject({ status: 200 });
  expect(calls).toMatchObject([{ options: { timeout: 5000 } }, { options: { timeout: 5000 } }]);
  asked = 0;
  expect(await act(port, "/api/sweep", { note: "now" })).toMatchObject({ status: 503 });
  expect(calls).toHaveLength(3);
});

it("a long read that was waited for to its end is not begun again: nobody waits any more", async () => {
  const late = () => {
    throw new Errors.RequestTimeoutError({ action: "reliable.list" } as never);
  };
  const { port, calls } = await served(ANYBODY, { list: late });
  expect(await read(port, "/api/list", {})).toMatchObject({ status: 503 });
  expect(calls).toMatchObject([{ options: { timeout: 20_000 } }]);
});

it("answers the page's files: whole, compressed, or not changed", async () => {
  const { port } = await served(ANYBODY);
  const page = await ask(port, "/");
  expect([page.status, page.text, page.headers["content-type"]]).toEqual([200, "the page", "text/html; charset=utf-8"]);
  expect(page.headers).toMatchObject({ "cache-control": "no-cache", vary: "accept-encoding", etag: 'W/"the page"' });
  const zipped = await ask(port, "/page.js", { headers: { "accept-encoding": "br, gzip" } });
  expect([zipped.text, zipped.headers["content-encoding"]]).toEqual(["gzipped the script", "gzip"]);
  for (const tag of ['W/"the page"', '"other", W/"the page"']) {
    const same = await ask(port, "/", { headers: { "if-none-match": tag } });
    expect([same.status, same.text, same.headers.etag]).toEqual([304, "", 'W/"the page"']);
  }
  expect((await ask(port, "/", { headers: { "if-none-match": 'W/"older"' } })).status).toBe(200);
});

it("the mount itself leads to the page, by a relative address, with its query", async () => {
  const { port } = await served({ ...ANYBODY, path: "/ops/reliable" });
  const { status, headers } = await ask(port, "/ops/reliable?x=1");
  expect([status, headers.location]).toEqual([308, "reliable/?x=1"]);
  expect((await ask(port, "/ops/reliable")).headers.location).toBe("reliable/");
});

it.each([
  "/nothing",
  "/index.html/",
  "/api",
  "/api/",
  "/api/nothing",
  "/api/Retry",
  "/api/__proto__",
  "/api/constructor",
  "/api/toString",
  "/api/list/",
  "/api/list/more",
  "/api/stats",
  "/api/bulkLook",
  "/api/$node.list",
  "/api/reliable.list",
  "/__proto__",
  "/constructor",
  "/../package.json",
  "/..%2fpackage.json",
  "/%2e%2e/package.json",
  "/page.js%00.html",
  "//page.js",
  "/page.js/../../package.json",
  "/assets.js"
])("%s is nothing, by any method", async path => {
  const { port, calls } = await served(ANYBODY);
  for (const method of ["GET", "HEAD", "DELETE"]) {
    const answer = await ask(port, path, { method });
    expect([method, answer.status]).toEqual([method, 404]);
    expect(answer.headers).toMatchObject(SAFE_HEADERS);
  }
  expect((await act(port, path, { note: "x" })).status).toBe(404);
  expect(calls).toEqual([]);
});

const PLACES: [path: string, methods: string[]][] = [
  ["/", ["GET", "HEAD"]],
  ["/page.js", ["GET", "HEAD"]],
  ["/api/session", ["GET", "HEAD"]],
  ...READS.map((name): [string, string[]] => [`/api/${name}`, ["GET", "HEAD"]]),
  ...ACT_CALLS.map((name): [string, string[]] => [`/api/${name}`, ["POST"]])
];

it.each(PLACES)("%s takes %j and no other method; safe headers are on every answer", async (path, methods) => {
  const { port, calls } = await served(ANYBODY);
  const foreign = { origin: "https://evil.example", "access-control-request-method": "POST" };
  for (const method of ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]) {
    calls.length = 0;
    const answer = await ask(port, path, { method, headers: method === "POST" ? actHeaders(port, foreign) : foreign });
    expect(answer.headers).toMatchObject(SAFE_HEADERS);
    expect(Object.keys(answer.headers).filter(name => name.startsWith("access-control-"))).toEqual([]);
    if (methods.includes(method)) continue;
    expect([method, answer.status]).toEqual([method, method === "OPTIONS" ? 204 : 405]);
    expect(answer.headers.allow).toBe([...methods, "OPTIONS"].join(", "));
    expect(calls).toEqual([]);
  }
});

it("data is kept nowhere, and HEAD has none", async () => {
  const { port } = await served(ANYBODY, { overview: () => ({ sentence: "Nothing to do." }) });
  const got = await ask(port, "/api/overview");
  expect(got.json).toEqual({ sentence: "Nothing to do." });
  expect(got.headers["cache-control"]).toBe("no-store");
  const head = await ask(port, "/api/overview", { method: "HEAD" });
  expect([head.status, head.text]).toEqual([200, ""]);
  expect(head.headers["content-length"]).toBe(got.headers["content-length"]);
});

it("params reach the action as they are, and acts are never done again by themselves", async () => {
  const { port, calls } = await served(ANYBODY);
  await read(port, "/api/list", { event: "a & b = ?#ü", pageSize: 5 });
  await act(port, "/api/retry", { id: "a", note: "why" });
  expect(calls.map(({ action, params }) => [action, params])).toEqual([
    ["reliable.list", { event: "a & b = ?#ü", pageSize: 5 }],
    ["reliable.retry", { id: "a", note: "why" }]
  ]);
  expect(calls.map(({ options }) => options.retries)).toEqual([0, 0]);
  for (const query of ["params=x", "params=[]", "params={}&params={}"])
    expect((await ask(port, `/api/list?${query}`)).status).toBe(400);
});

it("a read of another site is refused", async () => {
  const { port, calls } = await served(ANYBODY);
  expect((await ask(port, "/api/list", { headers: { "sec-fetch-site": "cross-site" } })).status).toBe(403);
  expect(calls).toEqual([]);
});

it.each<[string, Record<string, string | undefined>, number]>([
  ["of another site", { origin: "https://evil.example" }, 403],
  ["without an origin", { origin: undefined }, 403],
  ["of a sandboxed frame", { origin: "null" }, 403],
  ["of a form", { "content-type": "text/plain" }, 415],
  ["without our header", { "x-reliable-dashboard": undefined }, 403],
  ["cross-site", { "sec-fetch-site": "cross-site" }, 403]
])("an act %s reaches nothing: neither access nor an action", async (_, headers, status) => {
  const asked: unknown[] = [];
  const { port, calls } = await served({
    access: user => {
      asked.push(user);
      return "all";
    }
  });
  for (const name of ACT_CALLS) {
    const answer = await act(port, `/api/${name}`, { note: "why", act: "retry" }, headers);
    expect([name, answer.status]).toEqual([name, status]);
  }
  expect([calls, asked]).toEqual([[], []]);
});

it.each(ACT_CALLS)("%s: who does it is never the browser's to say", async name => {
  const { port, calls } = await served(ANYBODY, { bulks: () => ({ act: "retry" }) });
  for (const body of [{ by: "forged" }, { by: null }, { by: undefined, force: true }]) {
    const answer = await act(port, `/api/${name}`, { note: "why", act: "retry", id: "a", ...body });
    expect([answer.status, errorIn(answer).type]).toEqual([400, "RELIABLE_BAD_OPTION"]);
    expect(errorIn(answer).data).toEqual({ option: "force" in body ? "force" : "by" });
  }
  expect(calls.filter(({ action }) => action !== "reliable.bulks")).toEqual([]);
});

it.each(ACT_CALLS)("%s needs a note, unless it only tells or changes what has one", async name => {
  const { port, calls } = await served(ANYBODY, { bulks: () => ({ act: "retry" }) });
  const done = () => calls.filter(({ action }) => action === `reliable.${name}`).length;
  for (const note of [undefined, "", "  ", 7, ["why"]]) {
    const answer = await act(port, `/api/${name}`, { act: "retry", id: "a", note });
    expect(answer.status).toBe(name === "bulkChange" ? 200 : 400);
    if (answer.status === 400) expect(errorIn(answer).data).toEqual({ option: "note" });
  }
  expect(done()).toBe(name === "bulkChange" ? 5 : 0);
  for (const body of [{ note: "why" }, { dryRun: true }])
    expect((await act(port, `/api/${name}`, { act: "retry", ...body })).status).toBe(200);
});

it.each<[string, Error, number, string, RegExp]>([
  [
    "bad params",
    new Errors.ValidationError("Parameters validation error!", "", [
      { message: "The 'x' field is forbidden." }
    ] as never),
    400,
    "VALIDATION_ERROR",
    /^The 'x' field is forbidden\.$/
  ],
  [
    "a bad option",
    new ReliableError("RELIABLE_BAD_OPTION", "No such status.", { option: "status" }),
    400,
    "RELIABLE_BAD_OPTION",
    /status/
  ],
  ["what is not there", new ReliableError("RELIABLE_NOT_FOUND", "No message 'a'."), 404, "RELIABLE_NOT_FOUND", /'a'/],
  [
    "what another was quicker with",
    new ReliableError("RELIABLE_ILLEGAL_TRANSITION", "It is pending."),
    409,
    "RELIABLE_ILLEGAL_TRANSITION",
    /pending/
  ],
  [
    "a group that lives",
    new ReliableError("RELIABLE_GROUP_ACTIVE", "It has consumers."),
    409,
    "RELIABLE_GROUP_ACTIVE",
    /consumers/
  ],
  [
    "a bulk act that runs",
    new ReliableError("RELIABLE_BULK_RUNNING", "Started by emma."),
    409,
    "RELIABLE_BULK_RUNNING",
    /emma/
  ],
  [
    "a server that is away",
    new ReliableRetryableError("RELIABLE_UNAVAILABLE", "MongoDB does not answer."),
    503,
    "RELIABLE_UNAVAILABLE",
    /MongoDB/
  ],
  [
    "no service",
    new Errors.ServiceNotFoundError({ action: "reliable.list" } as never),
    503,
    "SERVICE_NOT_FOUND",
    /reliable\.list/
  ],
  [
    "no service that is free",
    new Errors.ServiceNotAvailableError({ action: "reliable.list" } as never),
    503,
    "SERVICE_NOT_AVAILABLE",
    /reliable\.list/
  ],
  [
    "no answer",
    new Errors.RequestTimeoutError({ action: "reliable.list" } as never),
    503,
    "REQUEST_TIMEOUT",
    /reliable\.list/
  ],
  [
    "anything else",
    new TypeError("x\u001b[31m is not a function at mongodb://u:secret@h/db"),
    500,
    "RELIABLE_INTERNAL",
    /^x\\u001b\[31m is not .+mongodb:\/\/\*\*\*@h/
  ]
])("%s: its status, type and text, and no more", async (_, error, status, type, text) => {
  const fail = () => {
    throw error;
  };
  const { port, lines } = await served(ANYBODY, { list: fail, sweep: fail });
  for (const answer of [await read(port, "/api/list", {}), await act(port, "/api/sweep", { note: "why" })]) {
    expect([answer.status, errorIn(answer).type]).toEqual([status, type]);
    expect(errorIn(answer).message).toMatch(text);
    expect(Object.keys(answer.json)).toEqual(["error"]);
    expect(answer.text).not.toMatch(/secret|dashboard-handler\.spec/);
    expect(answer.headers).toMatchObject({ ...SAFE_HEADERS, "cache-control": "no-store" });
  }
  // What nobody has foreseen is for who mends it, without what nobody may read.
  for (const raw of ["u:secret", "\u001b"]) expect(lines.join()).not.toContain(raw);
  expect(lines.length).toBe(status === 500 ? 1 : 0);
});

it("what a stranger's error carries stays here; what ours carry is told", async () => {
  const foreign = Object.assign(new Error("no"), { type: "STRANGE", data: { payload: "4111" } });
  const own = new ReliableError("RELIABLE_BULK_RUNNING", "no", { id: "bulk-1", by: "emma" });
  const odd = new ReliableError("RELIABLE_NOT_FOUND", "no", { bytes: 1n });
  const errors = [foreign, own, odd];
  const { port } = await served(ANYBODY, {
    list: () => {
      throw errors.shift();
    }
  });
  const strange = await read(port, "/api/list", {});
  expect([strange.status, strange.text.includes("4111")]).toEqual([500, false]);
  expect(errorIn(await read(port, "/api/list", {})).data).toEqual({ id: "bulk-1", by: "emma" });
  const last = await read(port, "/api/list", {});
  expect([last.status, errorIn(last).data]).toEqual([404, undefined]);
});

it("a body that is too long is refused before its end, and its connection with it", async () => {
  const { port, calls } = await served(ANYBODY);
  const answer = await act(port, "/api/retry", { id: "a", note: "x".repeat(66_000) });
  expect([answer.status, answer.headers.connection]).toEqual([413, "close"]);
  expect(calls).toEqual([]);
});

it("who goes before the answer, or in the middle of a body, harms nobody", async () => {
  let begun: () => void = () => undefined;
  const reached = new Promise<void>(resolve => (begun = resolve));
  let go: () => void = () => undefined;
  const { port, lines } = await served(ANYBODY, {
    list: () => {
      begun();
      return new Promise<void>(resolve => (go = resolve));
    }
  });
  const reader = connect(port, "127.0.0.1", () => reader.write("GET /api/list HTTP/1.1\r\nhost: a\r\n\r\n"));
  await reached;
  await new Promise(resolve => reader.once("close", resolve).destroy());
  go();
  const head = Object.entries(actHeaders(port, { "content-length": "100" }) as object).map(
    ([name, value]) => `${name}: ${value}`
  );
  const actor = connect(port, "127.0.0.1", () =>
    actor.write(["POST /api/retry HTTP/1.1", `host: 127.0.0.1:${port}`, ...head, "", '{"note"'].join("\r\n"), () =>
      actor.destroy()
    )
  );
  await new Promise(resolve => actor.once("close", resolve));
  expect((await ask(port, "/api/session")).status).toBe(200);
  expect(lines).toEqual([]);
});

it("files that were not built are missed with the command that makes them", () => {
  expect(() => readAssets(["/nowhere/a", "/nowhere/b"])).toThrow(/\/nowhere\/a or \/nowhere\/b; `npm run build`/);
});
