import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { ServiceBroker } from "moleculer";
import { expect, it, onTestFinished } from "vitest";
import type { Session } from "../../../src/dashboard/api";
import type { Overview } from "../../../src/operator/overview";
import { cluster, until } from "../../support/brokers";
import { startNode, type TestNode } from "../../support/child";
import { at, deadOf } from "../../support/messages";
import { freePort } from "../../support/ports";
import { storeOf } from "../../support/runtime";
import { urls } from "../../support/servers";
import { consumer, subscribed } from "../../support/services";

const COMMAND = "dist/src/dashboard/command/main.js";
const KEY = "k".repeat(40);

function folder(): string {
  const made = mkdtempSync(path.join(tmpdir(), "dashboard-command-"));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** Nothing of this process's own variables: they name servers too. */
const clean = Object.fromEntries(
  Object.keys(process.env)
    .filter(name => name.startsWith("RELIABLE_"))
    .map(name => [name, undefined])
);

const command = (args: string[], env: Record<string, string> = {}, cwd?: string) =>
  startNode(COMMAND, { args, env: { ...clean, ...env }, ...(cwd && { cwd }) });

async function ended(
  args: string[],
  env: Record<string, string> = {}
): Promise<{ code: number | null; output: string }> {
  const node = await command(args, env);
  const { code } = await node.exited;
  return { code, output: node.output };
}

async function running(node: TestNode): Promise<void> {
  await until(
    () => node.output,
    output => output.includes("Ctrl-C ends it"),
    20_000
  );
}

it.each<[string[], string]>([
  [["dashbord"], "There is one command: dashboard"],
  [["dashboard", "--amqp"], "The flag --amqp needs a value."],
  [["dashboard", "--prot", "3"], "There is no flag --prot"],
  [["dashboard", "--anonymous=yes"], "The flag --anonymous takes no value."],
  [["dashboard", "somewhere"], "1 word(s) after 'dashboard' belong to no flag"],
  [["dashboard", "--anonymous"], "The flag --amqp is missing (or the variable RELIABLE_AMQP)"],
  [["dashboard", "--amqp=amqp://a", "--mongo=mongodb://a"], "Who may use the page? --users-file FILE"],
  [["dashboard", "--amqp=amqp://a", "--mongo=mongodb://a", "--anonymous", "--users-file=x"], "contradict each other"],
  [["dashboard", "--amqp=amqp://a", "--mongo=mongodb://a", "--users-file=/nowhere"], "The flag --users-file: ENOENT"],
  [["dashboard", "--amqp=amqp://a", "--mongo=mongodb://a", "--anonymous", "--port=0x1"], "The flag --port must be"]
])("%j is a mistake that names the flag", async (args, text) => {
  const { code, output } = await ended(args);
  expect(output).toContain(text);
  expect(output.trim().split("\n")).toHaveLength(1);
  expect(code).toBe(2);
});

it("an option that the library refuses is told by its flag, and no password with it", async () => {
  const of = ["dashboard", "--anonymous", "--mongo", "mongodb://ops:hush@x/y"];
  for (const [args, flag] of [
    [[...of, "--amqp", "http://ops:hush@x"], "--amqp: RELIABLE_BAD_OPTION"],
    [[...of, "--amqp", "amqp://ops:hush@x", "--trace-url", "javascript:alert(1)"], "--trace-url: RELIABLE_BAD_OPTION"]
  ] as const) {
    const { code, output } = await ended([...args]);
    expect(output).toContain(flag);
    expect(output).not.toContain("hush");
    expect(code).toBe(1);
  }
});

it("--help names every flag and its variable; --version is the package's", async () => {
  const { code, output } = await ended(["dashboard", "--help"]);
  expect(code).toBe(0);
  for (const text of ["--amqp URL", "RELIABLE_AMQP", "--signing-key-file FILE", "--read-only", "--hide-payloads"])
    expect(output).toContain(text);
  expect((await ended([])).output).toBe(output);
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  expect((await ended(["--version"])).output.trim()).toBe(version);
});

it("without moleculer it says what to install", async () => {
  const away = folder();
  for (const file of ["main.js", "flags.js", "settings.js"])
    copyFileSync(path.join(path.dirname(COMMAND), file), path.join(away, file));
  const args = ["dashboard", "--amqp=amqp://a", "--mongo=mongodb://a", "--anonymous"];
  const node = await startNode(path.join(away, "main.js"), { args, env: clean });
  expect((await node.exited).code).toBe(2);
  expect(node.output).toContain("npm install moleculer moleculer-reliable-emit");
});

it.each(["SIGINT", "SIGTERM"] as const)(
  "beside a cluster it shows and acts by name, hides what is secret, and %s ends it",
  async signal => {
    const made = cluster();
    const handled: string[] = [];
    const take = (ctx: { locals: { reliable: { id: string } } }) => void handled.push(ctx.locals.reliable.id);
    const own = made.mixin({ signingKey: KEY, signing: "require", sweepEveryMs: 3_600_000 });
    const home = await made.node("home", [consumer(own, "stock", "order.created", take as never)]);
    await subscribed(home, 1);
    const dead = deadOf({ at: at(0) });
    await storeOf(home).messages.insert([dead]);
    const files = folder();
    writeFileSync(path.join(files, "users"), "# who may\nops@night:hu:sh\n");
    writeFileSync(path.join(files, "key"), `${KEY}\n`);
    chmodSync(path.join(files, "key"), 0o600);
    const port = await freePort();
    const { amqp, mongo, redis } = urls();
    const node = await command(
      [
        "dashboard",
        "--users-file",
        "users",
        "--signing-key-file",
        "key",
        "--port",
        `${port}`,
        "--badge",
        "night shift"
      ],
      {
        ...{ RELIABLE_AMQP: amqp, RELIABLE_MONGO: mongo, RELIABLE_REDIS: redis, RELIABLE_DATABASE: "reliable_test" },
        ...{ RELIABLE_NAMESPACE: made.namespace, RELIABLE_DASHBOARD_HIDE_PAYLOADS: "true", RELIABLE_SIGNING: "require" }
      },
      files
    );
    await running(node);
    const page = `http://127.0.0.1:${port}`;
    expect(node.output).toContain(`The dashboard of namespace '${made.namespace}': ${page}/`);
    expect(node.output).not.toMatch(/guest:guest|hu:sh|kkkk/);
    expect(readFileSync(`/proc/${node.pid}/cmdline`, "utf8").replaceAll("\0", "")).toBe(
      "moleculer-reliable-emit dashboard"
    );
    const headers = { authorization: `Basic ${Buffer.from("ops@night:hu:sh").toString("base64")}` };
    const read = async <T>(name: string) => (await (await fetch(`${page}/api/${name}`, { headers })).json()) as T;
    expect((await fetch(`${page}/api/session`)).status).toBe(401);
    expect(await read<Session>("session")).toMatchObject({
      user: "ops@night",
      badge: { text: "night shift" },
      hidePayloads: true,
      namespace: made.namespace
    });
    const { groups, nodes } = await read<Overview>("overview");
    expect(groups).toMatchObject([{ group: "stock", consumers: 1 }]);
    expect(nodes).toMatchObject([{ kind: "observer" }, { nodeID: "home", kind: "unasked", answers: null }]);
    const act = await fetch(`${page}/api/retry`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json", "x-reliable-dashboard": "1", origin: page },
      body: JSON.stringify({ ids: [dead._id], note: "mended" })
    });
    expect(act.status).toBe(200);
    await until(() => handled.includes(dead._id));
    expect(await lastAct(home)).toMatchObject({ act: "retry", by: "ops@night", note: "mended" });
    process.kill(node.pid, signal);
    expect(await node.exited).toEqual({ code: 0, signal: null });
  }
);

async function lastAct(broker: ServiceBroker): Promise<unknown> {
  return (await broker.call<{ rows: unknown[] }, object>("reliable.audits", {})).rows[0];
}

it("a port that is taken ends the start, and says so by the flag", async () => {
  const { amqp, mongo } = urls();
  const of = ["dashboard", "--anonymous", "--amqp", amqp, "--mongo", mongo, "--namespace", "nobody"];
  const taken = await ended([...of, "--port", new URL(amqp).port]);
  expect(taken.output).toContain("--port: RELIABLE_BAD_OPTION: The dashboard cannot listen on port");
  expect(taken.code).toBe(1);
});
