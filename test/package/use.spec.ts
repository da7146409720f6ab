import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { startNode } from "../support/child";
import { copyFixtures, corner, FIXTURES, installed, PROJECT_NAMES, run } from "../support/installed";
import { codeAfter, codeBlocks, guide, USER_PAGES } from "../support/pages";
import { atBroker } from "../support/rabbitmq";
import { urls } from "../support/servers";

const tsc = path.resolve("node_modules/.bin/tsc");
const json = (output: string) => JSON.parse(output.trim().split("\n").at(-1) ?? "") as unknown;

/** What the compiler says of a user's files; nothing is spared, the declarations of packages neither. */
async function compile(folder: string, moduleResolution: "node16" | "bundler", own: object = {}): Promise<string> {
  const module = moduleResolution === "node16" ? "node16" : "preserve";
  const compilerOptions = {
    strict: true,
    noEmit: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    target: "es2022",
    module,
    moduleResolution,
    esModuleInterop: true,
    types: ["node"],
    ...own
  };
  const file = path.join(folder, `tsconfig.${moduleResolution}.json`);
  writeFileSync(file, JSON.stringify({ compilerOptions, include: ["*.ts", "*.js"] }));
  // Moleculer 0.15 declares with errors of its own (bunyan, log4js, nats, pino; implicit any), each of one line and
  // more that are indented.
  return (await run(tsc, ["-p", file, "--pretty", "false"], { cwd: folder })).output.replace(
    /^\S*node_modules\/moleculer\/src\/.*\n(\s+.*\n)*/gm,
    ""
  );
}

/** Whole modules; the quick start, the tests and what needs OpenTelemetry are run by tests of their own. */
const MODULES = USER_PAGES.flatMap(page =>
  codeBlocks(page, "js")
    .filter(
      ({ code }) =>
        /^const .*require\(/m.test(code) && !/quick start|node:test|async function main|opentelemetry/.test(code)
    )
    .map(({ code }, i) => ({ name: `${path.basename(page, ".md")}-${i}.js`, code }))
);

/** The guides' modules run on the embedded default. */
const NO_SERVERS = { AMQP_URL: undefined, MONGO_URL: undefined, REDIS_URL: undefined };

const LOADING = `
const { ServiceBroker } = require("moleculer");
const names = process.argv.slice(2);
for (const name of names) {
  const made = require("./" + name);
  if (made.name) new ServiceBroker({ logger: false }).createService(made);
  else new ServiceBroker({ logger: false, ...made });
}
setTimeout(() => { console.log(names.length + " loaded"); process.exit(); }, 1000);`;

describe.each(PROJECT_NAMES)("installed beside Moleculer %s", name => {
  const { folder } = installed(name);
  const moleculer = name.slice(0, 4);
  const done = { moleculer, handled: [{ order: 42 }], status: "consumed" };

  it("is required, and imported with named imports; an emit is consumed", async () => {
    const at = corner(folder);
    copyFixtures(at, "orders.cjs");
    copyFixtures(at, "orders.mjs");
    const required = await run("node", ["orders.cjs"], { cwd: at });
    expect({ ...required, output: json(required.output) }).toEqual({ code: 0, output: done });
    const imported = await run("node", ["orders.mjs"], { cwd: at });
    expect({ ...imported, output: json(imported.output) }).toEqual({
      code: 0,
      output: { ...done, unknown: "RELIABLE_NOT_FOUND", exports: ["object", 1] }
    });
  });

  it.each(["node16", "bundler"] as const)(
    "is typed in strict TypeScript with moduleResolution %s, and wrong uses fail",
    async moduleResolution => {
      const shown = USER_PAGES.flatMap(page => codeBlocks(page, "ts"));
      expect(shown.length).toBeGreaterThan(0);
      const at = corner(folder, Object.fromEntries(shown.map(({ code }, i) => [`guide-${i}.ts`, code])));
      copyFixtures(at, ".ts");
      expect(await compile(at, moduleResolution)).toBe("");
    }
  );

  it.each(["node16", "bundler"] as const)(
    "checks payloads by the user's own map of events, with moduleResolution %s, and wrong ones fail",
    async moduleResolution => {
      const at = corner(folder);
      copyFixtures(at, ".ts", "typed");
      expect(await compile(at, moduleResolution)).toBe("");
    }
  );

  it("is typed in JavaScript that the compiler checks", async () => {
    const at = corner(folder);
    copyFixtures(at, ".js");
    expect(await compile(at, "node16", { allowJs: true, checkJs: true, noImplicitAny: false })).toBe("");
  });

  it("loads every module that the guides show, and Moleculer makes a service or a broker of what it exports", async () => {
    const at = corner(folder, Object.fromEntries(MODULES.map(({ name, code }) => [name, code])));
    writeFileSync(path.join(at, "all.js"), LOADING);
    const { code, output } = await run("node", ["all.js", ...MODULES.map(({ name }) => name)], {
      cwd: at,
      env: { ...process.env, ...NO_SERVERS, CA_FILE: path.resolve("package.json"), PROBES_PORT: "0" }
    });
    expect({ code, output }).toMatchObject({ code: 0, output: expect.stringContaining(`${MODULES.length} loaded`) });
  });

  it("the tests that the guide shows pass", async () => {
    const at = corner(folder, { "mail.test.js": codeAfter("## A test of a handler", "js", guide("testing")) });
    const { code, output } = await run("node", ["--test"], { cwd: at, env: { ...process.env, ...NO_SERVERS } });
    expect({ code, output }).toMatchObject({ code: 0, output: expect.stringMatching(/# pass 3\n# fail 0/) });
  });

  it("runs the README's quick start as it is told there", async () => {
    const at = corner(folder, { "quick-start.js": codeAfter("## Quick start", "js") });
    const { code, output } = await run("node", ["quick-start.js"], { cwd: at });
    const plain = (text: string) =>
      text
        .trim()
        .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "ID")
        .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "AT")
        .replace(/in \d+ ms/g, "in N ms");
    expect({ code, output: plain(output) }).toEqual({ code: 0, output: plain(codeAfter("## Quick start", "text")) });
  });

  if (name.endsWith("drivers"))
    it("takes live clients of mongodb 6 and ioredis 5: emit, consume, sweep on the real servers", async () => {
      const namespace = `test-${randomBytes(5).toString("hex")}`;
      onTestFinished(async () => {
        for (const queue of [
          "receipts.outbox",
          "receipts.callback",
          "checks",
          "announcements",
          "parked",
          "on.stock/order.created"
        ])
          await atBroker(channel => channel.deleteQueue(`${namespace}.reliable.${queue}`)).catch(() => undefined);
        for (const exchange of ["events", "control"])
          await atBroker(channel => channel.deleteExchange(`${namespace}.reliable.${exchange}`));
      });
      const at = corner(folder);
      copyFixtures(at, "live-clients.cjs");
      const node = await startNode(path.join(at, "live-clients.cjs"), {
        env: { OPTIONS: JSON.stringify({ namespace, ...urls() }) }
      });
      expect(await node.exited).toEqual({ code: 0, signal: null });
      // The failed attempt's write went with its transaction.
      expect(json(node.output)).toEqual({
        attempts: [1, 2],
        rows: 1,
        pong: "PONG",
        redis: "up (your client)",
        ok: true,
        claimed: "number",
        drivers: ["6", "5"]
      });
    });
});

it.each(["wrong.ts", "amqp-queue.ts"])("each wrong use in %s is an error of its own", async file => {
  const wrong = readFileSync(path.join(FIXTURES, file), "utf8");
  const at = corner(installed("0.15").folder, { [file]: wrong.replaceAll("@ts-expect-error", "") });
  const lines = (await compile(at, "node16")).match(/^[\w-]+\.ts\(\d+/gm) ?? [];
  expect(new Set(lines).size).toBe(wrong.match(/@ts-expect-error/g)?.length);
});
