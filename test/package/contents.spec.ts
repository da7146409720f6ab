import { statSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { corner, installed, packed, run } from "../support/installed";
import { guide, PAGES, textOf } from "../support/pages";

/** As the guide states them, in kB. */
const LIMITS = { packed: 900, unpacked: 3200 };

const bin = (name: string) => path.resolve("node_modules/.bin", name);

/** File → its size, of the tarball. */
async function files(): Promise<Record<string, number>> {
  const { output } = await run("tar", ["-tvzf", packed().tarball]);
  return Object.fromEntries(
    output
      .trim()
      .split("\n")
      .map(line => line.split(/\s+/))
      .map(words => [(words.at(-1) as string).replace("package/", ""), Number(words[2])])
  );
}

it("holds what is run, its types and the texts; no sources, no tests, no maps", async () => {
  const names = Object.keys(await files());
  expect(names.filter(name => !/^(dist|docs)\//.test(name)).toSorted()).toEqual([
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "package.json"
  ]);
  const page = names.filter(name => name.startsWith("dist/src/dashboard/assets/"));
  expect(page.map(name => path.basename(name)).toSorted()).toEqual(["icon.svg", "index.html", "page.css", "page.js"]);
  expect(
    names.filter(
      name =>
        name.startsWith("dist/") && !page.includes(name) && !/^dist\/(src|mixins)\/[\w./-]+(\.js|\.d\.ts)$/.test(name)
    )
  ).toEqual([]);
  // Its sources are built into those.
  expect(names.filter(name => name.startsWith("dist/src/dashboard/page/"))).toEqual([]);
  const texts = names.filter(name => /^docs\/(guide|reference)\/[a-z-]+\.md$/.test(name));
  expect(texts.toSorted()).toEqual(PAGES.filter(page => /^docs\/(guide|reference)\//.test(page)));
  expect(
    names.filter(
      name => name.startsWith("docs/") && !texts.includes(name) && !/^docs\/schemas\/[a-z-]+\.schema\.json$/.test(name)
    )
  ).toEqual(["docs/wire-contract.md"]);
  expect(names).toContain("dist/src/index.js");
  expect(names.filter(name => /\b(tests?|spec|bench|examples?)\b/.test(name))).toEqual([]);
  const { folder } = installed("0.15");
  const { code, output } = await run("grep", [
    "-rlE",
    "sourceMappingURL|/work/|file://",
    path.join(folder, "node_modules/moleculer-reliable-emit/dist")
  ]);
  expect({ code, output }).toEqual({ code: 1, output: "" });
});

it("is no larger than the guide says", async () => {
  const unpacked = Object.values(await files()).reduce((sum, size) => sum + size, 0);
  expect(statSync(packed().tarball).size / 1000).toBeLessThan(LIMITS.packed);
  expect(unpacked / 1000).toBeLessThan(LIMITS.unpacked);
  expect(textOf(guide("typescript-and-versions"))).toContain(
    `less than ${LIMITS.packed} kB (${LIMITS.unpacked} kB unpacked)`
  );
});

it("its exports are closed: the package, its dashboard, its test kit and its package.json, nothing deeper", async () => {
  const at = corner(installed("0.15").folder);
  const tried = [
    "",
    "/dashboard",
    "/testing",
    "/package.json",
    "/dist/src/index.js",
    "/dist/src/runtime/runtime.js",
    "/dist/mixins/node.js",
    "/src/index.ts",
    "/README.md"
  ].map(deep => `moleculer-reliable-emit${deep}`);
  const script = `
		const tried = ${JSON.stringify(tried)};
		const of = async (way) => Promise.all(tried.map(name => Promise.resolve(name).then(way).then(() => "open", error => error.code)));
		(async () => console.log(JSON.stringify([await of(name => require(name)), await of(name => import(name, name.endsWith(".json") ? { with: { type: "json" } } : undefined))])))();`;
  const { output } = await run("node", ["-e", script], { cwd: at });
  const expected = [
    "open",
    "open",
    "open",
    "open",
    ...Array<string>(tried.length - 4).fill("ERR_PACKAGE_PATH_NOT_EXPORTED")
  ];
  expect(JSON.parse(output.trim().split("\n").at(-1) ?? "")).toEqual([expected, expected]);
});

it("has one program: its dashboard beside a cluster, which `npx` finds", async () => {
  const { folder } = installed("0.15");
  const help = await run("npx", ["moleculer-reliable-emit", "--help"], { cwd: folder });
  expect(help).toMatchObject({ code: 0, output: expect.stringContaining("--users-file FILE") });
  const wrong = await run("npx", ["moleculer-reliable-emit", "dashboard"], { cwd: folder });
  expect(wrong).toMatchObject({ code: 2, output: expect.stringContaining("The flag --amqp is missing") });
});

it("publint finds nothing", async () => {
  const { code, output } = await run(bin("publint"), ["run", packed().tarball, "--strict"]);
  expect({ code, output }).toMatchObject({ code: 0, output: expect.stringContaining("All good!") });
});

it("are the types wrong? They are not, under any resolution", async () => {
  const { code, output } = await run(bin("attw"), [packed().tarball, "--format", "json"]);
  expect({ code, problems: (JSON.parse(output) as { problems?: object }).problems ?? {} }).toEqual({
    code: 0,
    problems: {}
  });
});
