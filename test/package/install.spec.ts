import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { installed, npmEnvironment, npmInstall, ours, PROJECT_NAMES, packed, run } from "../support/installed";
import { codeAfter } from "../support/pages";

const versionOf = (folder: string, name: string) =>
  (JSON.parse(readFileSync(path.join(folder, "node_modules", name, "package.json"), "utf8")) as { version: string })
    .version;

describe.each(PROJECT_NAMES)("plain npm install beside Moleculer %s", name => {
  const { folder, code, output } = installed(name);

  it("succeeds, without conflict and without a warning that is ours", async () => {
    expect({ code, output }).toMatchObject({ code: 0 });
    expect(output).not.toMatch(/ERESOLVE|peer dep|npm error/i);
    const names = new Set(Object.keys(ours(folder)).map(place => place.replace(/.*node_modules\//, "")));
    const told = [...output.matchAll(/^npm warn (?:EBADENGINE +package: '|deprecated )(@?[^@'\s]+)@/gm)].map(
      ([, about]) => about as string
    );
    expect(told.filter(about => names.has(about))).toEqual([]);
    // Moleculer 0.15 wants Node.js 22; what else is warned of (deprecated, install scripts) is not of our packages, see
    // below.
    expect(
      output.split("\n").filter(line => /^npm warn (?!EBADENGINE|deprecated |install-scripts)/.test(line))
    ).toEqual([]);
    expect(await run("npm", ["ls", "--all"], { cwd: folder })).toMatchObject({ code: 0 });
  });

  it("brings nothing deprecated, nothing that runs a script, nothing that needs a newer Node.js than we say", () => {
    const entries = Object.entries(ours(folder));
    expect(entries.length).toBeGreaterThan(20);
    expect(entries.filter(([, { deprecated, hasInstallScript }]) => deprecated || hasInstallScript)).toEqual([]);
    const floors = entries.map(([place, { engines }]) => ({
      place,
      major: Number(/^\D*(\d+)/.exec(engines?.node ?? "0")?.[1])
    }));
    expect(floors.filter(({ major }) => major > 20)).toEqual([]);
  });

  if (name.endsWith("drivers"))
    it("leaves the user's own drivers where they are, and shares those it can", () => {
      expect(versionOf(folder, "amqplib")).toMatch(/^0\.10\./);
      expect(versionOf(folder, "ioredis")).toMatch(/^5\./);
      expect(versionOf(folder, "mongodb")).toMatch(/^6\./);
      expect(versionOf(folder, "moleculer-reliable-emit/node_modules/amqplib")).toMatch(/^2\./);
      const places = Object.keys(ours(folder));
      expect(places).toEqual(expect.arrayContaining(["node_modules/ioredis", "node_modules/mongodb"]));
    });
});

it("moleculer-amqp-queue, which asks for Moleculer 0.13, needs an override from its user; then we install beside it as beside anything", {
  timeout: 400_000
}, async () => {
  const { folder, tarball } = packed();
  const theirs = ["moleculer@^0.14.0", "moleculer-amqp-queue@0.0.1"];
  expect(await npmInstall(path.join(folder, "queue-alone"), theirs)).toMatchObject({
    code: 1,
    output: expect.stringContaining("ERESOLVE")
  });
  const overrides = { "moleculer-amqp-queue": { moleculer: "$moleculer" } };
  const { code, output } = await npmInstall(path.join(folder, "queue"), [...theirs, tarball], {
    overrides,
    dependencies: { moleculer: "^0.14.0" }
  });
  expect({ code, output }).toMatchObject({ code: 0, output: expect.not.stringContaining("ERESOLVE") });
  const uses =
    'const m = require("moleculer-reliable-emit").ReliableAmqpQueue(); console.log(typeof m.merged, typeof require("moleculer-amqp-queue").methods.addAMQPJob)';
  expect((await run("node", ["-e", uses], { cwd: path.join(folder, "queue") })).output.trim()).toBe(
    "function function"
  );
});

it("the quick start's commands, in a new folder beside the clone, bring Moleculer 0.15, and its file runs", {
  timeout: 400_000
}, async () => {
  const { folder, tarball } = packed();
  const shop = path.join(folder, "newcomer", "shop");
  const clone = path.join(folder, "newcomer", "moleculer-reliable-emit");
  for (const made of [shop, clone]) mkdirSync(made, { recursive: true });
  copyFileSync(tarball, path.join(clone, path.basename(tarball)));
  writeFileSync(path.join(shop, "quick-start.js"), codeAfter("## Quick start", "js"));
  const commands = [codeAfter("## Quick start", "sh"), "node quick-start.js"].join("\n");
  const { code, output } = await run("bash", ["-e", "-c", commands], { cwd: shop, env: npmEnvironment(folder) });
  expect({ code, output }).toMatchObject({ code: 0, output: expect.stringContaining("mail for order 42 sent") });
  expect(versionOf(shop, "moleculer")).toMatch(/^0\.15\./);
});
