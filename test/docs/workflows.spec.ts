import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";

const run = promisify(execFile);
const FOLDER = ".github/workflows";
const files = readdirSync(FOLDER).map(name => path.posix.join(FOLDER, name));
const textOf = (file: string) => readFileSync(file, "utf8");
const { scripts, devDependencies } = JSON.parse(textOf("package.json")) as {
  scripts: Record<string, string>;
  devDependencies: Record<string, string>;
};

/** By GitHub's own reader of workflows, which knows keys, expressions and contexts. */
async function faultsOf(names: string[]): Promise<string[]> {
  const { stdout } = await run(process.execPath, ["--import", "tsx", "test/support/workflow-errors.mjs", ...names]);
  return JSON.parse(stdout) as string[];
}

it("GitHub can read the workflows; a wrong key, job or expression would be seen", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "workflow-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const wrong = [
    ["- run: npm ci", "- runn: npm ci", /Unexpected value 'runn'/],
    ["\n  quick:\n", "\n  quick:\n    needs: nobody\n", /depends on unknown job 'nobody'/],
    ["matrix.node", "matrixx.node", /Unrecognized named-value: 'matrixx'/]
  ] as const;
  const names = wrong.map(([right, bad], i) => {
    const text = textOf(`${FOLDER}/ci.yml`);
    expect(text).toContain(right);
    const name = path.join(folder, `${i}.yml`);
    writeFileSync(name, text.replace(right, bad));
    return name;
  });
  const faults = await faultsOf([...files, ...names]);
  names.forEach((name, i) => {
    expect(faults.filter(fault => fault.startsWith(name)).join("\n")).toMatch(wrong[i]?.[2] as RegExp);
  });
  expect(files.length).toBeGreaterThan(0);
  expect(faults.filter(fault => !fault.startsWith(folder))).toEqual([]);
});

it("every command of ours in the workflows is there", () => {
  const named = files.flatMap(file => [...textOf(file).matchAll(/\bnpm run (?:--silent )?([\w:]+)/g)]);
  expect(named.map(([, script]) => script).filter(script => !scripts[script as string])).toEqual([]);
  const used = files.flatMap(file => [...textOf(file).matchAll(/\brun: (test\/\S+)/g)]);
  for (const [, file] of used) expect(textOf(file as string)).toMatch(/^#!/);
});

it("CI runs the commands of .ci/run, on every Node.js that is supported", () => {
  const ci = textOf(`${FOLDER}/ci.yml`);
  for (const command of ["npm ci", "npm run test:quick", "npm test", "npm run test:all"])
    expect(ci).toContain(`run: ${command}\n`);
  expect([...ci.matchAll(/node: (\[.*\])/g)].map(([, list]) => list)).toEqual(["[20, 22, 24]", "[20, 22, 24]"]);
});

it("workflows may read only, but for the one that publishes, with provenance and after a look at the tag", () => {
  for (const file of files) {
    const text = textOf(file);
    expect(text, file).toMatch(/^permissions:\n {2}contents: read$/m);
    const writes = [...text.matchAll(/^ +([\w-]+): write/gm)].map(([, scope]) => scope);
    expect(writes, file).toEqual(file.endsWith("/publish.yml") ? ["id-token"] : []);
    expect(text, file).not.toMatch(/secrets\./);
    // In a script GitHub would put text from outside into the command itself.
    expect(text, file).not.toMatch(/run: .*\$\{\{ *github\.event\.(?!release\.prerelease)/);
  }
  const steps = textOf(`${FOLDER}/publish.yml`);
  const order = ["npm ci", '"$TAG" != "$version"', "npm publish --provenance --access public"];
  expect(order.map(step => steps.indexOf(step))).toEqual(
    order.map(step => steps.indexOf(step)).toSorted((a, b) => a - b)
  );
  expect(order.every(step => steps.includes(step))).toBe(true);
});

it("Dependabot leaves the pinned aliases alone", () => {
  const patterns = [...textOf(".github/dependabot.yml").matchAll(/dependency-name: "\*([^"]+)"/g)].map(
    ([, ending]) => ending as string
  );
  const aliases = Object.entries(devDependencies).filter(([, version]) => version.startsWith("npm:"));
  expect(aliases.length).toBeGreaterThan(0);
  expect(aliases.map(([name]) => name).filter(name => !patterns.some(ending => name.endsWith(ending)))).toEqual([]);
  const others = Object.keys(devDependencies).filter(name => !aliases.some(([alias]) => alias === name));
  expect(others.filter(name => patterns.some(ending => name.endsWith(ending)))).toEqual([]);
});
