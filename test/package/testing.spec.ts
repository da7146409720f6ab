import { cpSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { corner, installed, npmEnvironment, packed, run } from "../support/installed";

const EXAMPLE = "examples/testing";

it("the project of examples/testing installs the package, and its tests pass in node:test, Jest and Vitest", {
  timeout: 400_000
}, async () => {
  const { folder, tarball } = packed();
  const at = path.join(folder, "testing");
  cpSync(EXAMPLE, at, { recursive: true, filter: file => !file.includes("node_modules") });
  const manifest = readFileSync(path.join(at, "package.json"), "utf8");
  const theirs = "file:../../moleculer-reliable-emit-0.1.0.tgz";
  expect(manifest).toContain(theirs);
  writeFileSync(path.join(at, "package.json"), manifest.replace(theirs, `file:${tarball}`));
  const env = npmEnvironment(folder);
  expect(await run("npm", ["install"], { cwd: at, env })).toMatchObject({ code: 0 });
  for (const [script, said] of [
    ["test", /# pass 5\n# fail 0/],
    ["test:jest", /Tests: +3 passed, 3 total/],
    ["test:vitest", /Tests +3 passed \(3\)/]
  ] as const) {
    const { code, output } = await run("npm", ["run", script], { cwd: at, env: { ...env, NO_COLOR: "1" } });
    expect({ code, output }).toEqual({ code: 0, output: expect.stringMatching(said) });
  }
});

it("its tests pass beside Moleculer 0.14", async () => {
  const at = corner(installed("0.14").folder);
  for (const part of ["services", "test"]) cpSync(path.join(EXAMPLE, part), path.join(at, part), { recursive: true });
  const env = npmEnvironment(packed().folder);
  const { code, output } = await run("node", ["--test", "test/orders.test.js"], { cwd: at, env });
  expect({ code, output }).toEqual({ code: 0, output: expect.stringMatching(/# pass 5\n# fail 0/) });
});

it("is loaded by who asks for it alone", async () => {
  const script = `
    const { sep } = require("node:path");
    const loaded = () => Object.keys(require.cache).filter(file => file.includes(sep + "testing")).length;
    require("moleculer-reliable-emit");
    require("moleculer-reliable-emit/dashboard");
    const before = loaded();
    const { reliableTesting } = require("moleculer-reliable-emit/testing");
    import("moleculer-reliable-emit/testing").then(module =>
      console.log(JSON.stringify([before, loaded() > 0, module.reliableTesting === reliableTesting])));`;
  const { output } = await run("node", ["-e", script], { cwd: corner(installed("0.15").folder) });
  expect(JSON.parse(output.trim().split("\n").at(-1) ?? "")).toEqual([0, true, true]);
});
