import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect } from "node:http2";
import type { AddressInfo } from "node:net";
import { type Context, ServiceBroker, type ServiceSchema } from "moleculer";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { ReliableDashboard } from "../../mixins/dashboard";
import { readAssets } from "../../src/dashboard/assets";
import type { GatewayDashboardOptions } from "../../src/dashboard/options";
import { cluster } from "../support/brokers";
import { ApiGateway, gatewayWithPage, loneNode, portOf } from "../support/gateway";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";
import { act, actHeaders, ask, errorIn, read, SAFE_HEADERS } from "../support/web";

beforeAll(() => void readAssets());

/** Somebody with a token is who it says; the like of what users have. */
const methods = {
  authenticate(_ctx: Context, _route: object, req: IncomingMessage) {
    const { authorization = "" } = req.headers;
    if (authorization === "Bearer broken")
      throw Object.assign(new Error("The token is not valid."), { code: 401, type: "INVALID_TOKEN" });
    const [, name] = /^Bearer (\w+)$/.exec(authorization) ?? [];
    return name === undefined ? null : { username: name, token: "secret-of-the-user" };
  },
  mustBeOps(ctx: Context<unknown, { user?: { username: string } | null }>) {
    if (ctx.meta.user?.username !== "ops")
      throw Object.assign(new Error("For ops alone."), { code: ctx.meta.user ? 403 : 401, type: "REFUSED" });
  },
  operator: () => Promise.resolve({ username: "operator" })
};

const as = (name: string) => ({ authorization: `Bearer ${name}` });

/** A node with a gateway alone: who is let in is told before anything else is asked. */
async function gatewayAlone(options: GatewayDashboardOptions, more: object = {}) {
  const { broker, logs } = await loneNode([gatewayWithPage(options, { methods, ...more })]);
  return { broker, port: portOf(broker), logs };
}

const session = (port: number, headers = {}, mount = "/reliable") => read(port, `${mount}/api/session`, {}, headers);

describe("who has not logged in gets nothing at all", () => {
  const ADDRESSES = ["/reliable", "/reliable/", "/reliable/page.js", "/reliable/api/session", "/reliable/api/list"];

  it.each<[string, GatewayDashboardOptions]>([
    ["authentication", { authentication: true }],
    ["a method of authentication", { authentication: "authenticate" }],
    ["authorization", { authorization: "mustBeOps" }],
    ["both", { authentication: true, authorization: "mustBeOps" }]
  ])("by %s", async (_, options) => {
    const { port } = await gatewayAlone(options);
    for (const path of ADDRESSES) {
      const answer = await ask(port, path);
      expect([path, answer.status, errorIn(answer).type]).toEqual([path, 401, "RELIABLE_UNAUTHENTICATED"]);
      expect(answer.headers).toMatchObject({ ...SAFE_HEADERS, "cache-control": "no-store" });
    }
    expect((await act(port, "/reliable/api/sweep", { note: "x" })).status).toBe(401);
  });

  it("nor who has a bad token; the method's own words are told", async () => {
    const { port } = await gatewayAlone({ authentication: true });
    const answer = await session(port, as("broken"));
    expect([answer.status, errorIn(answer).message]).toEqual([401, "The token is not valid."]);
    expect(answer.headers).toMatchObject(SAFE_HEADERS);
  });

  it("nor who is not authorized, and that is another status", async () => {
    const { port } = await gatewayAlone({ authentication: true, authorization: "mustBeOps" });
    for (const path of ADDRESSES) {
      const answer = await ask(port, path, { headers: as("emma") });
      expect([path, answer.status, errorIn(answer)]).toEqual([
        path,
        403,
        { type: "RELIABLE_FORBIDDEN", message: "For ops alone." }
      ]);
    }
    expect((await session(port, as("ops"))).json["user"]).toBe("ops");
  });
});

it("access gets the user of the gateway, at each call", async () => {
  const { port } = await gatewayAlone({
    authentication: true,
    access: user => ((user as { username: string }).username === "emma" ? ["retry"] : false)
  });
  expect((await session(port, as("emma"))).json).toMatchObject({ user: "emma", access: ["retry"], acts: ["retry"] });
  expect((await session(port, as("ops"))).status).toBe(403);
  expect((await act(port, "/reliable/api/sweep", { note: "x" }, as("emma"))).status).toBe(403);
  // Nothing of a user but the name is shown.
  expect((await session(port, as("emma"))).text).not.toContain("secret-of-the-user");
});

it("anonymous is said, or there is no page", async () => {
  expect((await errorOf(() => ReliableDashboard({}))).type).toBe("RELIABLE_BAD_OPTION");
  const { port } = await gatewayAlone({ access: "anonymous" });
  expect((await session(port)).json).toMatchObject({ user: null, access: "all" });
});

/** The error with which such a service is not created. */
async function creation(service: ServiceSchema): Promise<{ type: string; option: unknown; message: string }> {
  const { type, data, message } = await errorOf(() => new ServiceBroker({ logger: false }).createService(service));
  return { type, option: (data as { option?: unknown } | undefined)?.option, message };
}

it.each<[string, GatewayDashboardOptions, object, string]>([
  ["a method of authentication", { authentication: "authenticat" }, methods, "authentication"],
  ["the usual method of authentication", { authentication: true }, {}, "authentication"],
  ["a method of authorization", { authentication: true, authorization: "mustBe" }, methods, "authorization"],
  ["the usual method of authorization", { authorization: true }, methods, "authorization"],
  ["a field that is no method", { authentication: "settings" }, methods, "authentication"]
])(
  "%s that is not there ends the creation: moleculer-web would leave the route open",
  async (_, options, own, option) => {
    const refused = await creation(gatewayWithPage(options, { methods: own }));
    expect(refused).toMatchObject({ type: "RELIABLE_BAD_OPTION", option });
    expect(refused.message).toContain("does not have");
  }
);

it("a service that is no gateway is told so", async () => {
  const page = ReliableDashboard({ access: "anonymous" });
  expect(await creation({ name: "orders", mixins: [page] } as unknown as ServiceSchema)).toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    message: expect.stringContaining("[ApiGateway, ReliableDashboard(")
  });
});

describe("routes of the user", () => {
  const ping = { actions: { ping: () => "pong", list: () => "the user's" } };
  const answers = { "GET /ping": (_: IncomingMessage, res: ServerResponse) => res.end("pong") };

  it.each([
    ["/reliable", {}],
    ["/reliable/", {}],
    ["/RELIABLE", {}],
    ["/gw/reliable", { path: "/gw" }]
  ])("of the path %s is not replaced without a word", async (path, settings) => {
    const route = { path: path.replace("/gw", ""), aliases: answers };
    expect(
      await creation(gatewayWithPage({ access: "anonymous" }, { settings: { ...settings, routes: [route] } }))
    ).toMatchObject({ type: "RELIABLE_BAD_OPTION", option: "path" });
  });

  it("that take the page's addresses are told, too", async () => {
    const route = { path: "/", aliases: { "GET /reliable/page.js": "api.ping" } };
    const refused = await creation(gatewayWithPage({ access: "anonymous" }, { settings: { routes: [route] } }));
    expect(refused).toMatchObject({ type: "RELIABLE_BAD_OPTION", option: "path" });
    expect(refused.message).toContain("GET /reliable/page.js");
  });

  it("are as they were: beside it, of names that begin so, and the default", async () => {
    const routes = [
      { path: "/", mappingPolicy: "all" },
      { path: "/reliable-orders", aliases: answers },
      { path: "/reliable/sub/route", aliases: answers }
    ];
    const { port } = await gatewayAlone({ access: "anonymous" }, { ...ping, settings: { routes } });
    for (const path of ["/api/ping", "/reliable-orders/ping", "/reliable/sub/route/ping"])
      expect([path, (await ask(port, path)).text]).toEqual([path, expect.stringContaining("pong")]);
    // `reliableapi.list` would be an action.
    expect(errorIn2((await ask(port, "/reliablex/list")).json)).toBe("SERVICE_NOT_FOUND");
    expect((await session(port)).status).toBe(200);
  });

  it("that there are none keeps the gateway's default, which maps all", async () => {
    const { port } = await gatewayAlone({ access: "anonymous" }, ping);
    expect((await ask(port, "/api/ping")).text).toBe('"pong"');
    expect((await session(port)).status).toBe(200);
  });

  it("their actions stay out of the page's route, and ours out of theirs", async () => {
    const { port } = await gatewayAlone({ access: "anonymous" }, ping);
    for (const path of ["/reliable/api/ping", "/reliable/api.ping", "/reliable/~node/list", "/reliable/api/ping/x"])
      expect([path, (await ask(port, path)).status]).toEqual([path, 404]);
    for (const path of ["/reliable.list", "/reliable.retry"]) expect((await ask(port, path)).status).toBe(404);
  });
});

/** JSON of a gateway's own errors. */
const errorIn2 = (json: Record<string, unknown>) => json["type"];

it.each(["whitelist", "blacklist"])("a %s of the gateway's settings is no matter of it", async name => {
  const { port } = await gatewayAlone(
    { access: "anonymous" },
    { settings: { [name]: ["**"], routes: [{ path: "/api", whitelist: [], mappingPolicy: "restrict" }] } }
  );
  expect((await session(port)).status).toBe(200);
});

it("a cors of the whole gateway does not hold for it: no other site reads, or may ask", async () => {
  const cors = { origin: "*", credentials: true };
  const routes = [{ path: "/api", aliases: { "GET /ping": (_: unknown, res: ServerResponse) => res.end("pong") } }];
  const { port } = await gatewayAlone({ access: "anonymous" }, { settings: { cors, routes } });
  const foreign = { origin: "https://evil.example" };
  expect((await ask(port, "/api/ping", { headers: foreign })).headers["access-control-allow-origin"]).toBe("*");
  const answers = [
    await session(port, foreign),
    await ask(port, "/reliable/", { headers: foreign }),
    await act(port, "/reliable/api/sweep", { note: "x" }, foreign),
    await ask(port, "/reliable/api/sweep", {
      method: "OPTIONS",
      headers: { ...foreign, "access-control-request-method": "POST" }
    })
  ];
  for (const { headers } of answers) {
    expect(Object.keys(headers).filter(name => name.startsWith("access-control-"))).toEqual([]);
    expect(headers).toMatchObject(SAFE_HEADERS);
  }
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 403, 204]);
});

it("what a gateway `use`s may have read the body before", async () => {
  const { json } = (ApiGateway as unknown as { bodyParser: { json(): unknown } }).bodyParser;
  const { port } = await gatewayAlone(
    { access: () => [], authentication: "operator" },
    { settings: { use: [json()] } }
  );
  const answer = await act(port, "/reliable/api/sweep", { note: "x" });
  expect([answer.status, errorIn(answer).message]).toEqual([403, "'sweep' is not allowed; allowed are: none."]);
});

it("the route has nothing that is `use`d: that would run before authentication", async () => {
  const { broker } = await gatewayAlone({ authentication: true });
  const { routes } = broker.getLocalService("api") as unknown as { routes: { path: string; middlewares: unknown[] }[] };
  expect(routes.find(({ path }) => path === "/reliable/")?.middlewares).toEqual([]);
});

it("options of the route: a limit of requests counts, and its answer is like others", async () => {
  const rateLimit = { window: 60_000, limit: 1, headers: true };
  const { port } = await gatewayAlone({ access: "anonymous", routeOptions: { rateLimit } });
  expect((await session(port)).status).toBe(200);
  const limited = await session(port);
  expect([limited.status, errorIn(limited).message]).toEqual([429, "Rate limit exceeded"]);
  expect(limited.headers).toMatchObject(SAFE_HEADERS);
});

it("polls are not in the log of each request", async () => {
  const { port, logs } = await gatewayAlone({ access: "anonymous" });
  await session(port);
  expect(logs.filter(line => line.includes("/reliable/api/session"))).toEqual([]);
});

it("nothing of it is in what other nodes are told of the service", async () => {
  const { broker } = await gatewayAlone({ authentication: true, traceUrl: "https://traces.example/{id}" });
  const services = await broker.call<{ name: string; settings: object }[], object>("$node.services", {
    skipInternal: true
  });
  expect(JSON.stringify(services)).not.toMatch(/traces\.example|aliases|authenticat/);
});

it("is there in either order of mixins, and twice", async () => {
  const two = [
    ReliableDashboard({ access: "anonymous", path: "/one" }),
    ApiGateway,
    ReliableDashboard({ access: "anonymous", path: "/ops/two", readOnly: true })
  ];
  const { port } = await gatewayAlone({ access: "anonymous" }, { mixins: two });
  expect((await session(port, {}, "/one")).json["access"]).toBe("all");
  expect((await session(port, {}, "/ops/two")).json["access"]).toBe("read");
});

describe("addresses are relative", () => {
  it.each([
    ["/reliable", {}, "/reliable"],
    ["/ops/reliable/", {}, "/ops/reliable"],
    ["/reliable", { path: "/gw" }, "/gw/reliable"],
    ["/reliable", { path: "gw/" }, "/gw/reliable"]
  ])("path %s with the gateway's settings %j: %s", async (path, settings, mount) => {
    const { port } = await gatewayAlone({ access: "anonymous", path }, { settings });
    const to = await ask(port, `${mount}?x=1`);
    expect([to.status, to.headers.location, to.text]).toEqual([308, "reliable/?x=1", ""]);
    expect((await ask(port, `${mount}/`)).text).toContain("./page.js");
    expect((await ask(port, `${mount}/page.js`)).headers["content-type"]).toContain("javascript");
    expect((await session(port, {}, mount)).status).toBe(200);
    expect((await ask(port, `${mount}/api/session/more`)).headers).toMatchObject(SAFE_HEADERS);
  });

  it("at the root of a gateway that has no other there", async () => {
    const { port } = await gatewayAlone(
      { access: "anonymous", path: "/" },
      { settings: { routes: [{ path: "/api" }] } }
    );
    expect((await ask(port, "/")).text).toContain("./page.js");
    expect((await session(port, {}, "")).status).toBe(200);
  });

  it("behind a proxy that strips a prefix, with the browser's host or an origin that is named", async () => {
    const { port } = await gatewayAlone({
      access: () => [],
      authentication: "operator",
      origins: ["https://ops.example.com"]
    });
    const proxy = await stripping("/inner/tools", port);
    expect((await ask(proxy, "/inner/tools/reliable")).headers.location).toBe("reliable/");
    expect((await ask(proxy, "/inner/tools/reliable/")).text).toContain("./page.js");
    const swept = (origin: string) => act(proxy, "/inner/tools/reliable/api/sweep", { note: "x" }, { origin });
    expect(errorIn(await swept(`http://127.0.0.1:${proxy}`)).message).toContain("'origins'");
    expect(errorIn(await swept("https://ops.example.com")).message).toContain("'sweep' is not allowed");
  });

  it("within Express, below a path of its own", async () => {
    const { broker } = await gatewayAlone({ access: "anonymous" }, { settings: { server: false } });
    const { express } = broker.getLocalService("api") as unknown as {
      express(): (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void;
    };
    const handler = express();
    // As `app.use("/tools", service.express())` does it.
    const port = await listening(
      createServer((req, res) => {
        Object.assign(req, { originalUrl: req.url, url: (req.url ?? "").slice("/tools".length) });
        handler(req, res, () => res.writeHead(418).end());
      })
    );
    expect((await ask(port, "/tools/reliable")).headers.location).toBe("reliable/");
    expect((await ask(port, "/tools/reliable/")).text).toContain("./page.js");
    expect((await session(port, {}, "/tools/reliable")).status).toBe(200);
    expect((await ask(port, "/tools/other")).status).toBe(418);
  });
});

it("over HTTP/2 the host has another name", async () => {
  const { port } = await gatewayAlone({ access: () => [], authentication: "operator" }, { settings: { http2: true } });
  const client = connect(`http://127.0.0.1:${port}`);
  onTestFinished(() => client.destroy());
  const swept = async (origin: string) => {
    const stream = client.request({
      ":method": "POST",
      ":path": "/reliable/api/sweep",
      ...(actHeaders(port, { origin }) as Record<string, string>)
    });
    stream.end(JSON.stringify({ note: "x" }));
    let text = "";
    for await (const chunk of stream) text += chunk;
    return (JSON.parse(text) as { error: { message: string } }).error.message;
  };
  expect(await swept(`http://127.0.0.1:${port}`)).toContain("'sweep' is not allowed");
  expect(await swept("http://evil.example")).toContain("'origins'");
});

async function listening(server: Server): Promise<number> {
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** Takes the prefix away, and asks by another host. */
function stripping(prefix: string, to: number): Promise<number> {
  return listening(
    createServer(async (req, res) => {
      const chunks: Buffer[] = [];
      for await (const chunk of req) chunks.push(chunk as Buffer);
      const headers = { ...req.headers, host: `127.0.0.1:${to}` } as unknown as Record<string, string>;
      const path = (req.url ?? "").slice(prefix.length);
      const answer = await ask(to, path, {
        method: req.method as string,
        headers,
        body: Buffer.concat(chunks).toString()
      });
      res.writeHead(answer.status, answer.headers).end(answer.text);
    })
  );
}

/** A dead message, and the page before the service `reliable`. */
async function withDead(
  options: GatewayDashboardOptions
): Promise<{ broker: ServiceBroker; port: number; id: string }> {
  const made = cluster();
  const fail = () => Promise.reject(new Error("no such customer"));
  const mail = consumer(made.mixin({ maxAttempts: 1 }), "mail", "order.created", fail);
  const page = gatewayWithPage(options, { methods });
  const broker = await made.node("node-1", [emitter(made.mixin({ maxAttempts: 1 })), mail, page]);
  await subscribed(broker, 1);
  const { id } = await emitterOf(broker)("order.created", { card: "4111" }, { meta: { tenant: "acme" } });
  await reaches(broker, id, "dead");
  return { broker, port: portOf(broker), id };
}

it("an act is recorded with the name of who has logged in", async () => {
  const { broker, port, id } = await withDead({ authentication: true });
  const path = "/reliable/api/resolve";
  expect((await act(port, path, { id, note: "paid by hand", by: "forged" }, as("emma"))).status).toBe(400);
  expect((await act(port, path, { id, note: "paid by hand" }, as("emma"))).json).toMatchObject({ done: 1 });
  const { rows } = await broker.call<{ rows: object[] }, object>("reliable.audits", {});
  expect(rows).toMatchObject([{ act: "resolve", by: "emma", note: "paid by hand", id }]);
  const again = await act(port, path, { id, note: "paid by hand" }, as("ops"));
  expect([again.status, errorIn(again).type]).toEqual([409, "RELIABLE_ILLEGAL_TRANSITION"]);
  const unknown = await read(port, "/reliable/api/get", { id: "nobody" }, as("ops"));
  expect([unknown.status, errorIn(unknown).type]).toEqual([404, "RELIABLE_NOT_FOUND"]);
  const strict = await read(port, "/reliable/api/list", { colour: "red" }, as("ops"));
  expect([strict.status, errorIn(strict).type]).toEqual([400, "VALIDATION_ERROR"]);
});

it("a bulk act of one who may only retry cannot be made a discard", async () => {
  const { broker, port } = await withDead({
    authentication: true,
    access: user => (nameOf(user) === "emma" ? ["retry"] : "all")
  });
  const bulk = (name: string, params: object) =>
    act(port, "/reliable/api/bulk", { event: "order.created", note: "why", ...params }, as(name));
  expect((await bulk("emma", { act: "discard" })).status).toBe(403);
  const { json } = await bulk("ops", { act: "discard" });
  const change = await act(port, "/reliable/api/bulkChange", { id: json["id"], change: "stop" }, as("emma"));
  expect([change.status, errorIn(change).message]).toEqual([403, "'discard' is not allowed; allowed are: retry."]);
  const { rows } = await broker.call<{ rows: object[] }, object>("reliable.bulks", {});
  expect(rows).toMatchObject([{ act: "discard", by: "ops" }]);
});

const nameOf = (user: unknown) => (user as { username: string }).username;

it("payloads are hidden, and redacted, by the server", async () => {
  const redact = (payload: unknown) => ({ ...(payload as object), card: "…" });
  const { port, id } = await withDead({ access: "anonymous", hidePayloads: true, redact });
  const hidden = await read(port, "/reliable/api/get", { id });
  expect(hidden.json).toMatchObject({ id, status: "dead" });
  expect(hidden.text).not.toMatch(/4111|acme/);
  expect((await read(port, "/reliable/api/payload", { id })).json).toEqual({
    payload: { card: "…" },
    meta: { tenant: "acme" }
  });
});

it("without the service `reliable` anywhere it says so: 503", async () => {
  const { port } = await gatewayAlone({ access: "anonymous" });
  const answer = await read(port, "/reliable/api/overview", {});
  expect([answer.status, errorIn(answer).type]).toEqual([503, "SERVICE_NOT_FOUND"]);
});
