import { readdirSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { corner, installed, npmInstall, packed, run } from "../support/installed";
import { codeAfter, guide } from "../support/pages";

const PAGE = guide("metrics-and-tracing");

/** Starts a node; says what it has loaded of OpenTelemetry, or why it has not started. */
const START = `
const { ServiceBroker } = require("moleculer");
const { ReliableEmit } = require("moleculer-reliable-emit");
const broker = new ServiceBroker({ logger: false });
broker.createService({ name: "orders", mixins: [ReliableEmit({ openTelemetry: process.argv[2] === "on" })] });
const loaded = () => Object.keys(require.cache).filter(file => file.includes("opentelemetry/api")).length > 0;
broker
  .start()
  .then(() => console.log(JSON.stringify({ started: true, loaded: loaded() })))
  .catch(({ name, type, retryable, message, data }) =>
    console.log(JSON.stringify({ name, type, retryable, message, data })))
  .finally(() => broker.stop());`;

const said = ({ output }: { output: string }) => JSON.parse(output.trim().split("\n").at(-1) ?? "") as unknown;
const ENVIRONMENT = { ...process.env, AMQP_URL: undefined, MONGO_URL: undefined, REDIS_URL: undefined };

it("without @opentelemetry/api a node starts; with the option it does not, and the error names option and package", async () => {
  const { folder } = installed("0.15");
  expect(readdirSync(path.join(folder, "node_modules"))).not.toContain("@opentelemetry");
  const at = corner(folder, { "start.js": START });
  const start = (option: string) => run("node", ["start.js", option], { cwd: at, env: ENVIRONMENT }).then(said);
  expect(await start("off")).toEqual({ started: true, loaded: false });
  expect(await start("on")).toEqual({
    name: "ReliableError",
    type: "RELIABLE_BAD_OPTION",
    retryable: false,
    message: expect.stringMatching(/'openTelemetry'.*'@opentelemetry\/api'.*npm install @opentelemetry\/api/),
    data: { option: "openTelemetry", package: "@opentelemetry/api" }
  });
});

it("beside it, installed as the guide says, the guide's module runs and exports spans; off it is not loaded", {
  timeout: 400_000
}, async () => {
  const { folder, tarball } = packed();
  const [, , ...packages] = codeAfter("## OpenTelemetry", "sh", PAGE).split(" ");
  const project = await npmInstall(path.join(folder, "opentelemetry"), ["moleculer@^0.15.0", ...packages, tarball]);
  expect(project).toMatchObject({ code: 0, output: expect.not.stringContaining("ERESOLVE") });
  const at = corner(project.folder, { "traced.js": codeAfter("## OpenTelemetry", "js", PAGE), "start.js": START });
  const traced = await run("node", ["traced.js"], { cwd: at, env: ENVIRONMENT });
  expect(traced).toMatchObject({ code: 0 });
  const names = [...traced.output.matchAll(/^ {2}name: ["'](.*)["']/gm)].map(([, name]) => name);
  const queue = "reliable.on.stock/order.created";
  expect(names.toSorted()).toEqual([`process ${queue}`, "send reliable.events:order.created", `settle ${queue}`]);
  const start = (option: string) => run("node", ["start.js", option], { cwd: at, env: ENVIRONMENT }).then(said);
  expect([await start("off"), await start("on")]).toEqual([
    { started: true, loaded: false },
    { started: true, loaded: true }
  ]);
});
