import { expect, it } from "vitest";
import type { AccessOf } from "../../src/dashboard/access";
import { ACT_CALLS, ACTS, type Act, READS } from "../../src/dashboard/api";
import { served } from "../support/dashboard";
import { act, errorIn, read } from "../support/web";

/** A body with all that an act may need. */
const bodyOf = (name: string, more: object = {}) => ({
  note: "why",
  ...(name === "bulk" && { act: "retry" }),
  ...more
});

it.each<[string, unknown]>([
  ["false", false],
  ["null", null],
  ["nothing", undefined],
  ["true", true],
  ["another word", "admin"],
  ["a list with a word that is no act", ["retry", "everything"]],
  ["a list with a name of every object", ["constructor"]],
  ["an object", { retry: true }],
  ["a function", () => "all"],
  ["a promise of nothing", Promise.resolve()]
])("where access says %s nobody reads and nobody acts", async (_, said) => {
  const { port, calls } = await served({ access: (() => said) as AccessOf });
  for (const name of ["session", ...READS]) {
    const answer = await read(port, `/api/${name}`, { id: "a" });
    expect([name, answer.status, errorIn(answer).type]).toEqual([name, 403, "RELIABLE_FORBIDDEN"]);
  }
  for (const name of ACT_CALLS) {
    const answer = await act(port, `/api/${name}`, bodyOf(name));
    expect([name, answer.status]).toEqual([name, 403]);
  }
  expect(calls).toEqual([]);
});

it("an access that fails is logged once, and not told", async () => {
  const { port, lines } = await served({
    access: () => {
      throw new Error("the directory at ldap://admin:secret@ldap is away");
    }
  });
  for (let i = 0; i < 3; i++) expect((await read(port, "/api/session", {})).text).not.toContain("directory");
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("the directory at");
  expect(lines[0]).not.toContain("secret");
});

it.each<[string, { access?: AccessOf; readOnly?: boolean }]>([
  ["access says read", { access: () => "read" }],
  ["access says no act", { access: () => [] }],
  ["all is capped by readOnly", { access: () => "all", readOnly: true }],
  ["acts are capped by readOnly", { access: () => ["retry", "sweep"], readOnly: true }],
  ["readOnly, for all who have logged in", { readOnly: true }]
])("%s: everything is read, nothing is done", async (_, options) => {
  const { port, calls } = await served(options, { bulks: () => ({ act: "retry" }) });
  for (const name of ["session", ...READS])
    expect([name, (await read(port, `/api/${name}`, { id: "a" })).status]).toEqual([name, 200]);
  const { access, acts } = (await read(port, "/api/session", {})).json;
  expect(acts).toEqual([]);
  expect(access).toEqual(Array.isArray(access) ? [] : "read");
  calls.length = 0;
  for (const name of ACT_CALLS)
    for (const more of [{}, { dryRun: true }]) {
      const answer = await act(port, `/api/${name}`, bodyOf(name, more));
      expect([name, answer.status]).toEqual([name, 403]);
    }
  expect(calls.filter(({ action }) => action !== "reliable.bulks")).toEqual([]);
});

it("anonymous for readOnly is read", async () => {
  const { port } = await served({ access: "anonymous", readOnly: true });
  expect((await read(port, "/api/session", {})).json).toMatchObject({ access: "read", acts: [] });
  expect((await act(port, "/api/sweep", { note: "x" })).status).toBe(403);
});

it.each(ACTS.map(name => [name] as const))("who may %s may that alone", async allowed => {
  const { port, calls } = await served({ access: () => [allowed] });
  const reached = async (name: Act) => {
    calls.length = 0;
    const { status } = await act(port, `/api/${name}`, bodyOf(name));
    expect(calls.map(({ action }) => action)).toEqual(status === 200 ? [`reliable.${name}`] : []);
    return status;
  };
  for (const name of ACTS) expect([name, await reached(name)]).toEqual([name, name === allowed ? 200 : 403]);
});

it("who may resolve may skip what holds a key, and nobody else", async () => {
  const skip = { key: "order-7", note: "why" };
  const resolver = await served({ access: () => ["resolve"] });
  expect((await act(resolver.port, "/api/skip", skip)).status).toBe(200);
  expect(resolver.calls.map(({ action, params }) => [action, params])).toEqual([["reliable.skip", skip]]);
  const retrier = await served({ access: () => ["retry", "discard"] });
  const answer = await act(retrier.port, "/api/skip", skip);
  expect([answer.status, errorIn(answer).message]).toEqual([
    403,
    "'resolve' is not allowed; allowed are: retry, discard."
  ]);
  expect(retrier.calls).toEqual([]);
});

it("a bulk act needs the right of its act", async () => {
  const { port, calls } = await served({ access: () => ["retry"] });
  expect((await act(port, "/api/bulk", { act: "retry", note: "why" })).status).toBe(200);
  for (const name of ["resolve", "discard"]) {
    const answer = await act(port, "/api/bulk", { act: name, note: "why" });
    expect([answer.status, errorIn(answer).message]).toEqual([403, `'${name}' is not allowed; allowed are: retry.`]);
  }
  for (const name of [undefined, "", "bulk", "constructor", ["retry"], { act: "retry" }])
    expect((await act(port, "/api/bulk", { act: name, note: "why" })).status).toBe(400);
  expect(calls.map(({ params }) => params)).toEqual([{ act: "retry", note: "why" }]);
});

it("a change of a bulk act needs the right of that act, which the server looks up", async () => {
  const acts: Record<string, string> = { "bulk-1": "discard", "bulk-2": "replay", "bulk-3": "retry" };
  const bulks = ({ id }: Record<string, unknown>) => ({ act: acts[String(id)] });
  const { port, calls } = await served({ access: () => ["retry", "replay"] }, { bulks });
  const change = (id: string) => act(port, "/api/bulkChange", { id, change: "stop", act: "retry" });
  expect((await change("bulk-1")).status).toBe(403);
  expect((await change("bulk-2")).status).toBe(200);
  expect((await change("bulk-3")).status).toBe(200);
  const done = calls.filter(({ action }) => action === "reliable.bulkChange");
  expect(done.map(({ params }) => params["id"])).toEqual(["bulk-2", "bulk-3"]);
});

it("access is asked at each call, with the user and the request", async () => {
  const seen: unknown[] = [];
  let may: "all" | false = "all";
  const { port, as } = await served({
    access: (user, req) => {
      seen.push([user, req.method, req.headers["x-team"]]);
      return may;
    }
  });
  expect((await read(port, "/api/overview", {}, { "x-team": "mail" })).status).toBe(200);
  as({ username: "ops" });
  expect((await act(port, "/api/sweep", { note: "x" })).status).toBe(200);
  may = false;
  expect((await act(port, "/api/sweep", { note: "x" })).status).toBe(403);
  expect((await read(port, "/api/overview", {})).status).toBe(403);
  expect(seen).toEqual([
    [{ username: "emma" }, "GET", "mail"],
    ...Array.from({ length: 2 }, () => [{ username: "ops" }, "POST", undefined]),
    [{ username: "ops" }, "GET", undefined]
  ]);
});

it.each<[unknown, string | null]>([
  [{ username: "ops@night", id: 7 }, "ops@night"],
  [{ id: 7 }, "7"],
  [{ token: "secret" }, "a user without a name (ctx.meta.user)"],
  [true, "a user without a name (ctx.meta.user)"],
  ["  ", "a user without a name (ctx.meta.user)"],
  ["emma", "emma"],
  [null, null],
  [undefined, null]
])("the session of %j is that of %s, as acts record it", async (user, name) => {
  const { port, as } = await served({ hidePayloads: true, badge: { text: "production", tone: "red" } });
  as(user);
  expect((await read(port, "/api/session", {})).json).toEqual({
    user: name,
    access: "all",
    acts: [...ACTS],
    badge: { text: "production", tone: "red" },
    namespace: "shop",
    version: "0.1.0",
    hidePayloads: true,
    pollMs: 5000,
    nodeID: "node-1"
  });
});
