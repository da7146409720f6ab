import { existsSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { STATUSES, TRANSITIONS } from "../../src/message/lifecycle";
import { OPTIONS } from "../../src/options/options";
import { codeAfter, optionsTable, readme, rowsOf } from "../support/readme";

it("the README's lifecycle graph is the one of lifecycle.ts and its statuses lead where TRANSITIONS says", () => {
  const source = readFileSync("src/message/lifecycle.ts", "utf8");
  const graph = source
    .slice(source.indexOf("emit with `commit`"), source.indexOf("\n */"))
    .split("\n")
    .map((line, i) => (i === 0 ? line : line.replace(/^ \* {3}/, "")));
  const shown = codeAfter("## Lifecycle of a message", "text");
  expect(shown.split("\n")).toEqual(graph);
  for (const status of [...STATUSES, "discarded"]) expect(shown).toMatch(new RegExp(`\\b${status}\\b`));

  const rows = rowsOf("status | leads to").map(([status, to]) => [status, to === "–" ? [] : to?.split(", ")]);
  expect(rows.map(([status]) => status).toSorted()).toEqual(STATUSES.toSorted());
  expect(Object.fromEntries(rows)).toEqual(TRANSITIONS);
});

it("the README's table of options is that of the code", () => {
  expect(rowsOf("option | scope")).toHaveLength(Object.keys(OPTIONS).length);
  expect(readme).toContain(optionsTable());
});

it("the README knows every emit option", () => {
  const declared =
    /export interface EmitOptions \{([\s\S]*?)\n\}/.exec(readFileSync("src/emit/emit.ts", "utf8"))?.[1] ?? "";
  const named = rowsOf("option | what it does").flatMap(([names]) => (names ?? "").replace(/`/g, "").split(", "));
  expect(named.toSorted()).toEqual([...declared.matchAll(/^ {2}(\w+)\?:/gm)].map(([, name]) => name).toSorted());
});

it("the README knows every error type and whether it is retryable", () => {
  const source = readFileSync("src/errors.ts", "utf8");
  const types = [...source.slice(0, source.indexOf(";\n\nexport interface")).matchAll(/"(RELIABLE_\w+)"/g)].map(
    ([, type]) => type
  );
  const rows = rowsOf("type | retryable");
  expect(rows.map(([type]) => type)).toEqual(types);
  expect(rows.every(([, retryable, meaning]) => ["yes", "no", "both"].includes(retryable ?? "") && meaning)).toBe(true);
});

it("the README's links lead somewhere", () => {
  const anchors = [...readme.matchAll(/^#+ (.+)$/gm)].map(
    ([, title]) =>
      `#${(title as string)
        .toLowerCase()
        .replace(/[^\w\- ]/g, "")
        .replace(/ /g, "-")}`
  );
  const links = [...readme.matchAll(/\]\(([^)]+)\)/g)]
    .map(([, link]) => link as string)
    .filter(link => !link.startsWith("https:"));
  expect(links.filter(link => (link.startsWith("#") ? !anchors.includes(link) : !existsSync(link)))).toEqual([]);
});

it("the README's table of faults is that of the last full run", () => {
  const shown = /<!-- test\/chaos\/results.md -->\n([\s\S]*)<!-- \/test\/chaos\/results.md -->/.exec(readme)?.[1];
  expect(shown?.trim()).toBe(readFileSync("test/chaos/results.md", "utf8").trim());
});
