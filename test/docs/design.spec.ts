import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { STATUSES, TRANSITIONS } from "../../src/message/lifecycle";

const textOf = (file: string) => readFileSync(file, "utf8");
const DECISIONS = "docs/decisions";
const records = readdirSync(DECISIONS)
  .filter(name => name !== "README.md")
  .toSorted();
const design = textOf("docs/design.md");
const PAGES = [
  "docs/design.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  ...["README.md", ...records].map(name => `${DECISIONS}/${name}`)
];

/** GitHub's anchors. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
    (title as string)
      .toLowerCase()
      .replace(/[^\w\- ]/g, "")
      .replaceAll(" ", "-")
  );
}

it.each(PAGES)("links of %s lead somewhere", page => {
  const links = [...textOf(page).matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link as string);
  const broken = links
    .filter(link => !link.startsWith("https:"))
    .filter(link => {
      const [file = "", anchor] = link.split("#");
      const target = file === "" ? page : path.posix.join(path.posix.dirname(page), file);
      return !existsSync(target) || (anchor !== undefined && !anchorsOf(textOf(target)).includes(anchor));
    });
  expect(broken).toEqual([]);
});

it("the graph and the table of design.md are those of the code", () => {
  const source = textOf("src/message/lifecycle.ts");
  const graph = source
    .slice(source.indexOf("emit with `commit`"), source.indexOf("\n */"))
    .split("\n")
    .map((line, i) => (i === 0 ? line : line.replace(/^ \*(?: {3})?/, "")));
  expect(design).toContain(`\`\`\`text\n${graph.join("\n")}\n\`\`\``);
  const rows = [...design.matchAll(/^\| `(\w+)` \| ([\w, –]+) \| /gm)].map(([, status, to]) => [
    status,
    to === "–" ? [] : to?.split(", ")
  ]);
  expect(rows.map(([status]) => status)).toEqual(expect.arrayContaining([...STATUSES]));
  expect(Object.fromEntries(rows)).toEqual(TRANSITIONS);
});

it("the verbs of design.md are in the contract of the stores", () => {
  const section = design.slice(design.indexOf("| part | verb |"), design.indexOf("\n## 7."));
  const verbs = [...section.matchAll(/^\|(?: \w+)? \| ((?:`\w+`(?:, )?)+) \|/gm)].flatMap(([, cell]) =>
    [...(cell as string).matchAll(/`(\w+)`/g)].map(([, verb]) => verb as string)
  );
  expect(verbs.length).toBeGreaterThan(20);
  const contract = readdirSync("src/stores")
    .filter(name => name.endsWith(".ts"))
    .map(name => textOf(`src/stores/${name}`))
    .join("\n");
  expect(verbs.filter(verb => !new RegExp(`^ +${verb}\\(`, "m").test(contract))).toEqual([]);
});

it("the folders of design.md are those of src/", () => {
  const block = /```text\nsrc\/\n([\s\S]*?)\n```/.exec(design)?.[1] ?? "";
  const drawn = [...block.matchAll(/^ {2}([\w-]+)\/ /gm)].map(([, name]) => name);
  const there = readdirSync("src", { withFileTypes: true }).flatMap(entry => (entry.isDirectory() ? entry.name : []));
  expect(drawn.toSorted()).toEqual(there.toSorted());
});

it("every decision has its number, its three headings and its line in the index", () => {
  const index = textOf(`${DECISIONS}/README.md`);
  records.forEach((name, i) => {
    const number = String(i + 1).padStart(3, "0");
    const text = textOf(`${DECISIONS}/${name}`);
    expect(name).toMatch(new RegExp(`^${number}-[a-z0-9-]+\\.md$`));
    expect([...text.matchAll(/^#+ (.+)$/gm)].map(([, title]) => title)).toEqual([
      expect.stringMatching(new RegExp(`^${number} · `)),
      "Context",
      "Decision",
      "Consequences"
    ]);
    expect(index).toContain(`| [${number}](${name}) | ${/· (.+)/.exec(text)?.[1]} |`);
  });
});

it("commands and files that CONTRIBUTING names are there", () => {
  const text = textOf("CONTRIBUTING.md");
  const { scripts } = JSON.parse(textOf("package.json")) as { scripts: Record<string, string> };
  const named = [...text.matchAll(/\bnpm run ([\w:]+)/g)].map(([, script]) => script as string);
  expect([...new Set(named)].filter(script => !(script in scripts))).toEqual([]);
  const paths = [...text.matchAll(/`((?:src|test|docs|mixins|\.ci)\/[\w./-]*)`/g)].map(([, file]) => file as string);
  expect([...new Set(paths)].filter(file => !existsSync(file))).toEqual([]);
});

it("no comment names a document that is not in the repo", () => {
  const folders = ["src", "mixins", "test", "examples", "bench"];
  const files = folders.flatMap(folder =>
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter(name => /\.([cm]?[jt]s|py)$/.test(name) && !name.includes("node_modules"))
      .map(name => path.posix.join(folder, name))
  );
  const missing = files.flatMap(file =>
    [...textOf(file).matchAll(/(?:\/\/|^\s*\/?\*|#).*?((?:[\w-]+\/)*[\w-]+\.md)\b/gm)]
      .map(([, page]) => page as string)
      .filter(page => ![".", path.dirname(file), "docs"].some(from => existsSync(path.join(from, page))))
      .map(page => `${file}: ${page}`)
  );
  expect(missing).toEqual([]);
});
