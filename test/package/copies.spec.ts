import { cpSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { installed, npmInstall, pack, packed, run } from "../support/installed";

const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };

/** A later version of the package, as npm would publish it. */
async function later(folder: string): Promise<string> {
  const from = path.join(folder, "later");
  cpSync(path.join(installed("0.15").folder, "node_modules/moleculer-reliable-emit"), from, { recursive: true });
  for (const file of ["package.json", "dist/src/platform/process-shared.js"]) {
    const text = readFileSync(path.join(from, file), "utf8");
    expect(text).toContain(`"${version}"`);
    writeFileSync(path.join(from, file), text.replace(`"${version}"`, '"9.9.9"'));
  }
  return pack(folder, from);
}

const SCRIPT = `
const { ServiceBroker } = require("moleculer");
const copies = { ours: require("moleculer-reliable-emit"), twin: require("twin"), later: require("later") };

async function main() {
	const told = { copies: new Set(Object.values(copies).map(({ ReliableEmit }) => ReliableEmit)).size };
	const handled = [];
	const service = (name, { ReliableEmit }) => ({ name, mixins: [ReliableEmit()], events: { "order.created": { reliable: true, handler: ctx => void handled.push(name + ctx.params.n) } } });
	const broker = new ServiceBroker({ nodeID: "node-1", logger: false });
	broker.createService(service("orders", copies.ours));
	broker.createService(service("stock", copies.twin));
	const refused = (what) => { try { what(); } catch (error) { return [error.type, error.message]; } };
	told.refused = refused(() => broker.createService(service("mail", copies.later)));
	await broker.start();
	const { status } = await broker.getLocalService("orders").reliableEmit("order.created", { n: 1 }, { groups: ["orders", "stock"], waitFor: "consumed" });
	told.status = status;
	handled.sort();
	told.handled = handled;
	told.sweepers = broker.services.filter(({ name }) => name === "reliable").length;
	const other = new ServiceBroker({ nodeID: "node-2", namespace: "elsewhere", logger: false });
	other.createService(service("mail", copies.later));
	await other.start();
	told.elsewhere = (await other.getLocalService("mail").reliableEmit("order.created", { n: 2 }, { groups: ["mail"], waitFor: "consumed" })).status;
	await Promise.all([broker.stop(), other.stop()]);
	console.log(JSON.stringify(told));
}

main();
`;

it("a second copy in one process: of the same version it works as one with the first, of another it is refused where they would meet", {
  timeout: 400_000
}, async () => {
  const { folder, tarball } = packed();
  const at = path.join(folder, "copies");
  const { code, output } = await npmInstall(at, [
    "moleculer@^0.15.0",
    tarball,
    `twin@file:${tarball}`,
    `later@file:${await later(folder)}`
  ]);
  expect({ code, output }).toMatchObject({ code: 0 });
  writeFileSync(path.join(at, "run.js"), SCRIPT);
  const ran = await run("node", ["run.js"], { cwd: at });
  expect({ ...ran, output: JSON.parse(ran.output) as unknown }).toEqual({
    code: 0,
    output: {
      copies: 3,
      refused: ["RELIABLE_WRONG_VERSION", expect.stringMatching(new RegExp(`node 'node-1'.*${version}.*9\\.9\\.9`))],
      status: "consumed",
      handled: ["orders1", "stock1", "mail2"],
      sweepers: 1,
      elsewhere: "consumed"
    }
  });
});
