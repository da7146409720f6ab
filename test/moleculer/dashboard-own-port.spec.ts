import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { type Context, ServiceBroker, type ServiceSchema } from "moleculer";
import { beforeAll, expect, it, onTestFinished } from "vitest";
import { ReliableDashboardService } from "../../mixins/dashboard";
import { readAssets } from "../../src/dashboard/assets";
import type { OwnPortDashboardOptions } from "../../src/dashboard/options";
import { cluster, until } from "../support/brokers";
import { loneNode } from "../support/gateway";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";
import { act, ask, errorIn, read, SAFE_HEADERS } from "../support/web";

beforeAll(() => void readAssets());

/** The page's address is only in the log. */
function portIn(logs: string[]): number {
  const line = logs.findLast(each => each.includes("the dashboard is at"));
  return Number(/http:\/\/[^ ]+:(\d+)\//.exec(line ?? "")?.[1]);
}

async function pageAlone(options: OwnPortDashboardOptions, more: object[] = []) {
  const { broker, logs } = await loneNode([ReliableDashboardService({ port: 0, ...options }), ...more]);
  return { broker, port: portIn(logs), logs };
}

const basic = (name: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${name}:${password}`).toString("base64")}`
});

const USERS = { emma: "s3cret", Zoë: "a:b:ç" };

it("users come in by name and password; others are asked for them, at every address", async () => {
  const { port, logs } = await pageAlone({ users: USERS });
  for (const path of ["/", "/page.js", "/api/session", "/api/list", "/nothing"]) {
    const answer = await ask(port, path);
    expect([path, answer.status, errorIn(answer).type]).toEqual([path, 401, "RELIABLE_UNAUTHENTICATED"]);
    expect(answer.headers["www-authenticate"]).toContain("Basic realm=");
    expect(answer.headers).toMatchObject({ ...SAFE_HEADERS, "cache-control": "no-store" });
  }
  expect((await act(port, "/api/sweep", { note: "x" })).status).toBe(401);
  expect((await ask(port, "/", { headers: basic("emma", "wrong") })).status).toBe(401);
  for (const [name, password] of Object.entries(USERS))
    expect((await ask(port, "/api/session", { headers: basic(name, password) })).json["user"]).toBe(name);
  expect((await ask(port, "/", { headers: basic("emma", USERS.emma) })).text).toContain("./page.js");
  expect(logs.join()).not.toMatch(/s3cret|wrong/);
});

it("an act is recorded with the name of the login, and no more of a user leaves the process", async () => {
  const made = cluster();
  const metas: unknown[] = [];
  const watch = {
    name: "watch",
    localAction:
      (next: (ctx: Context) => unknown, { name }: { name: string }) =>
      (ctx: Context) => {
        if (name === "reliable.resolve") metas.push({ ...ctx.meta });
        return next(ctx);
      }
  };
  const authentication = async (req: IncomingMessage) =>
    req.headers["x-user"] ? { name: req.headers["x-user"], token: "secret" } : null;
  const fail = () => Promise.reject(new Error("no such customer"));
  const mixin = made.mixin({ maxAttempts: 1 });
  const page = ReliableDashboardService({ port: 0, authentication });
  const services = [emitter(mixin), consumer(mixin, "mail", "order.created", fail), page];
  const broker = await made.node("node-1", services, { middlewares: [watch] as never });
  await subscribed(broker, 1);
  const { id } = await emitterOf(broker)("order.created", { n: 1 });
  await reaches(broker, id, "dead");
  const port = portIn(made.logs);
  expect((await act(port, "/api/resolve", { id, note: "by hand" })).status).toBe(401);
  expect((await act(port, "/api/resolve", { id, note: "by hand" }, { "x-user": "ops@night" })).json).toMatchObject({
    done: 1
  });
  expect(metas).toEqual([{ user: { username: "ops@night" } }]);
  const { rows } = await broker.call<{ rows: object[] }, object>("reliable.audits", {});
  expect(rows).toMatchObject([{ act: "resolve", by: "ops@night", note: "by hand" }]);
});

it("access gets the user as the login named it; readOnly caps it", async () => {
  const { port } = await pageAlone({
    authentication: () => ({ id: 7, team: "mail" }),
    access: user => ((user as { team: string }).team === "mail" ? ["retry"] : false)
  });
  expect((await ask(port, "/api/session")).json).toMatchObject({ user: "7", access: ["retry"] });
  expect((await act(port, "/api/sweep", { note: "x" })).status).toBe(403);
});

it("a loopback address answers to its own names alone", async () => {
  const { port } = await pageAlone({ access: "anonymous", origins: ["https://ops.example.com"] });
  const status = async (host: string) => (await ask(port, "/", { headers: { host } })).status;
  expect(await status(`localhost:${port}`)).toBe(200);
  expect(await status("ops.example.com")).toBe(200);
  for (const path of ["/", "/page.js", "/api/session", "/nothing"]) {
    const answer = await ask(port, path, { headers: { host: "rebound.evil.example" } });
    expect([path, answer.status]).toEqual([path, 403]);
    expect(answer.headers).toMatchObject(SAFE_HEADERS);
  }
  // With the name that was made to point here the origin is that of the host.
  const rebound = { host: "evil.example", origin: "http://evil.example" };
  expect((await act(port, "/api/sweep", { note: "x" }, rebound)).status).toBe(403);
});

it("on other addresses the log says what is open", async () => {
  const open = await pageAlone({ access: "anonymous", ip: "0.0.0.0" });
  expect(open.logs.filter(line => line.includes(" warn "))).toEqual([expect.stringContaining("may do everything")]);
  expect((await ask(open.port, "/", { headers: { host: "10.0.0.7" } })).status).toBe(200);
  const bare = await pageAlone({ users: USERS, ip: "0.0.0.0" });
  expect(bare.logs.filter(line => line.includes(" warn "))).toEqual([expect.stringContaining("unencrypted")]);
  for (const options of [{ access: "anonymous" }, { users: USERS }] as const) {
    const { logs } = await pageAlone(options);
    expect(logs.filter(line => line.includes(" warn "))).toEqual([]);
  }
});

it("below a path, and nowhere else", async () => {
  const { port } = await pageAlone({ access: "anonymous", path: "/ops/reliable" });
  const to = await ask(port, "/ops/reliable");
  expect([to.status, to.headers.location]).toEqual([308, "reliable/"]);
  expect((await ask(port, "/ops/reliable/")).text).toContain("./page.js");
  expect((await ask(port, "/ops/reliable/api/session")).status).toBe(200);
  for (const path of ["/", "/ops", "/ops/reliable2", "/ops/reliablepage.js", "/api/session", "http://127.0.0.1/ops"])
    expect([path, (await ask(port, path)).status]).toEqual([path, 404]);
});

it("without the service `reliable` anywhere it says so: 503", async () => {
  const { port } = await pageAlone({ access: "anonymous" });
  const answer = await read(port, "/api/overview", {});
  expect([answer.status, errorIn(answer).type]).toEqual([503, "SERVICE_NOT_FOUND"]);
});

/** The error of the service's own start; Moleculer logs it, and goes on or not by its line. */
async function startOf(service: ServiceSchema): Promise<{ type: string; option: unknown; message: string }> {
  const broker = new ServiceBroker({ logger: false });
  const { started } = service as unknown as { started(this: object): Promise<void> };
  const made = broker.createService({ name: "holder" } as ServiceSchema);
  const error = await errorOf(started.call(made));
  return { type: error.type, option: (error.data as { option: unknown }).option, message: error.message };
}

it("a port that another has ends the start, and is named", async () => {
  const other = createServer();
  await new Promise<void>(resolve => other.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as AddressInfo;
  const refused = await startOf(ReliableDashboardService({ access: "anonymous", port }));
  expect(refused).toMatchObject({ type: "RELIABLE_BAD_OPTION", option: "port" });
  expect(refused.message).toContain(`port ${port} of 127.0.0.1: another process`);
});

it("an address that is not this machine's ends the start, and is named", async () => {
  const refused = await startOf(ReliableDashboardService({ access: "anonymous", port: 0, ip: "192.0.2.7" }));
  expect(refused).toMatchObject({ type: "RELIABLE_BAD_OPTION", option: "ip" });
});

it("a stop closes what is open, and the port can be had again at once", async () => {
  const { broker, port } = await pageAlone({ access: "anonymous" });
  const idle = await opened(port);
  const halfOpen = await opened(port);
  halfOpen.write("POST /api/sweep HTTP/1.1\r\ncontent-le");
  const kept = await opened(port);
  kept.write(`GET /api/session HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n\r\n`);
  await new Promise(resolve => kept.once("data", resolve));
  const closed = Promise.all(
    [idle, halfOpen, kept].map(socket => new Promise(resolve => socket.once("close", resolve)))
  );
  await broker.stop();
  await closed;
  const { port: again } = await pageAlone({ access: "anonymous", port });
  expect(again).toBe(port);
});

async function opened(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  await new Promise(resolve => socket.once("connect", resolve));
  return socket;
}

it("a stop lets an act that has begun be answered", async () => {
  let begun: () => void = () => undefined;
  const reached = new Promise<void>(resolve => (begun = resolve));
  let end: (result: object) => void = () => undefined;
  const reliable = {
    name: "reliable",
    actions: {
      sweep(_ctx: Context) {
        begun();
        return new Promise(resolve => (end = resolve));
      }
    }
  };
  const { broker, port } = await pageAlone({ access: "anonymous" }, [reliable]);
  const answered = act(port, "/api/sweep", { note: "x" });
  await reached;
  const page = broker.getLocalService("reliable-dashboard");
  const stopped = broker.destroyService(page as never);
  await until(() =>
    ask(port, "/api/session").then(
      () => false,
      () => true
    )
  );
  end({ pages: 1 });
  expect((await answered).json).toEqual({ pages: 1 });
  await stopped;
});

it("a request whose headers or body do not end is ended", { timeout: 400_000 }, async () => {
  const { port } = await pageAlone({ access: "anonymous" });
  const head = [
    "POST /api/sweep HTTP/1.1",
    `host: 127.0.0.1:${port}`,
    `origin: http://127.0.0.1:${port}`,
    "x-reliable-dashboard: 1",
    "content-type: application/json",
    "content-length: 50"
  ];
  const answerOf = async (text: string) => {
    const socket = await opened(port);
    let answer = "";
    socket.on("data", data => (answer += data));
    socket.write(text);
    await new Promise(resolve => socket.once("close", resolve));
    return answer.split("\r\n")[0];
  };
  const [slowHead, slowBody] = await Promise.all([
    answerOf(head.join("\r\n")),
    answerOf(`${head.join("\r\n")}\r\n\r\n{`)
  ]);
  expect([slowHead, slowBody]).toEqual(["HTTP/1.1 408 Request Timeout", "HTTP/1.1 408 Request Timeout"]);
});
