import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import vm from "node:vm";
import { describe, expect, it } from "vitest";
import { referencePages, textsWithoutParam } from "../../docs/generate-reference";
import { eventsExchange } from "../../src/couriers/amqp/topology";
import { ERRORS } from "../../src/errors";
import { STATUSES, TRANSITIONS } from "../../src/message/lifecycle";
import { OPTIONS } from "../../src/options/options";
import { COLLECTION_NAMES } from "../../src/stores/documents/collection";
import { INDEXES } from "../../src/stores/documents/indexes";
import { systemQueues } from "../../src/wire/names";
import {
  anchorsOf,
  codeAfter,
  codeBlocks,
  guide,
  PAGES,
  proseOf,
  README,
  rowsOf,
  textOf,
  USER_PAGES
} from "../support/pages";

const graphOf = (source: string) =>
  source
    .slice(source.indexOf("emit with `commit`"), source.indexOf("\n */"))
    .split("\n")
    .map((line, i) => (i === 0 ? line : line.replace(/^ \*(?: {3})?/, "")));

describe("README", () => {
  it("has 300 lines at most, and the two commands with which everybody begins", () => {
    const lines = textOf(README).trimEnd().split("\n");
    expect(lines.length).toBeLessThanOrEqual(300);
    expect(lines).toEqual(expect.arrayContaining(["npm install && npm run demo", "npm install && npm test"]));
  });

  it("leads to every guide and every page of the reference", () => {
    const pages = PAGES.filter(page => /^docs\/(guide|reference)\//.test(page));
    expect(pages.length).toBeGreaterThan(15);
    expect(pages.filter(page => !textOf(README).includes(`](${page})`))).toEqual([]);
  });
});

describe.each(PAGES)("%s", page => {
  it("has links that lead somewhere", () => {
    const links = [...proseOf(page).matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, link]) => link as string)
      .filter(link => !/^https?:/.test(link));
    const broken = links.filter(link => {
      const [file = "", anchor] = link.split("#");
      const target = file === "" ? page : path.posix.join(path.posix.dirname(page), file);
      return !existsSync(target) || (anchor !== undefined && !anchorsOf(target).includes(anchor));
    });
    expect(broken).toEqual([]);
  });

  it("names scripts and files that are there", () => {
    const text = textOf(page);
    const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
    const named = [...text.matchAll(/\bnpm (?:run (?!…)([\w:-]+)|(test)\b)/g)].map(
      ([, run, test]) => run ?? test ?? ""
    );
    expect(named.filter(script => !(script in scripts))).toEqual([]);
    const files = [...text.matchAll(/\bnode ((?:examples|bench|test)\/[\w./-]+)/g)].map(([, file]) => file as string);
    expect(files.filter(file => !existsSync(file))).toEqual([]);
    const programs = [...text.matchAll(/\bnpx (?!-)([\w-]+)/g)].map(([, program]) => program as string);
    const own = Object.keys((JSON.parse(readFileSync("package.json", "utf8")) as { bin: object }).bin);
    expect(programs.filter(program => !existsSync(`node_modules/.bin/${program}`) && !own.includes(program))).toEqual(
      []
    );
  });
});

describe.each(USER_PAGES)("%s", page => {
  it("has code that can be parsed", () => {
    for (const { code } of codeBlocks(page, "js")) expect(parses(code), code).toBe(true);
    for (const { code } of codeBlocks(page, "sh")) execFileSync("bash", ["-n"], { input: code });
  });

  it("is indented by spaces", () => {
    expect(textOf(page)).not.toContain("\t");
  });
});

/** As statements, or as a method of a service. */
function parses(code: string): boolean {
  return [`(async function () {${code}\n})`, `({${code}\n})`].some(text => {
    try {
      new vm.Script(text);
      return true;
    } catch {
      return false;
    }
  });
}

it("the lifecycle graph is the one of lifecycle.ts and its statuses lead where TRANSITIONS says", () => {
  const page = guide("guarantees");
  const shown = codeAfter("## Lifecycle of a message", "text", page);
  expect(shown.split("\n")).toEqual(graphOf(readFileSync("src/message/lifecycle.ts", "utf8")));
  for (const status of [...STATUSES, "discarded"]) expect(shown).toMatch(new RegExp(`\\b${status}\\b`));

  const rows = rowsOf("status | leads to", page).map(([status, to]) => [status, to === "–" ? [] : to?.split(", ")]);
  expect(rows.map(([status]) => status).toSorted()).toEqual(STATUSES.toSorted());
  expect(Object.fromEntries(rows)).toEqual(TRANSITIONS);
});

it("every emit option is documented", () => {
  const declared =
    /export interface EmitOptions \{([\s\S]*?)\n\}/.exec(readFileSync("src/emit/emit-options.ts", "utf8"))?.[1] ?? "";
  const rows = rowsOf("option | what it does", guide("emitting"));
  const named = rows.flatMap(([names]) => (names ?? "").replace(/`/g, "").split(", "));
  expect(named.toSorted()).toEqual([...declared.matchAll(/^ {2}(\w+)\?:/gm)].map(([, name]) => name).toSorted());
});

describe("the reference", () => {
  it.each(Object.entries(referencePages()))("%s is what `npm run docs:reference` would write", (file, text) => {
    expect(textOf(file)).toBe(text);
  });

  it("has no page, and its generator no text, that nothing is made from", () => {
    const pages = readdirSync("docs/reference").map(name => `docs/reference/${name}`);
    expect(pages.toSorted()).toEqual(Object.keys(referencePages()).toSorted());
    expect(textsWithoutParam()).toEqual([]);
  });

  it("knows every option", () => {
    const names = rowsOf("option | scope", "docs/reference/options.md").map(([name]) => name);
    expect(names).toEqual(Object.keys(OPTIONS));
  });

  it("knows every error type and whether it is retryable", () => {
    const rows = rowsOf("type | retryable", "docs/reference/errors.md");
    expect(rows.map(([type, retryable]) => [type, retryable])).toEqual(
      Object.entries(ERRORS).map(([type, { retryable }]) => [type, retryable ? "yes" : "no"])
    );
    expect(rows.every(([, , meaning]) => meaning)).toBe(true);
  });
});

it("the collections and indexes of MongoDB are those of the code", () => {
  const page = guide("servers");
  const collections = rowsOf("collection | one document is", page).map(([name]) => name);
  expect(collections.toSorted()).toEqual(COLLECTION_NAMES.map(name => `shop.reliable.${name}`).toSorted());
  const shown = rowsOf("collection | key", page).map(([name, key, kind]) => [name, key, kind]);
  const made = COLLECTION_NAMES.flatMap(name =>
    INDEXES[name].map(({ key, onlyWith }) => [
      name,
      `{ ${Object.keys(key)
        .map(field => `${field.includes(".") ? `"${field}"` : field}: 1`)
        .join(", ")} }`,
      onlyWith ? `partial: has ${onlyWith}` : ""
    ])
  );
  expect(shown.toSorted()).toEqual(made.toSorted());
});

it("the queues of RabbitMQ are those of the code", () => {
  const names = rowsOf("name | what it is", guide("servers")).flatMap(([cell]) => (cell ?? "").split(/`, `|`, …/));
  expect(names.map(name => name.replaceAll("`", ""))).toEqual(
    expect.arrayContaining([...Object.values(systemQueues("shop")), eventsExchange("shop").name])
  );
});

it("the table of faults is that of the last full run", () => {
  const text = textOf(guide("faults"));
  const shown = /<!-- test\/chaos\/results.md -->\n([\s\S]*)<!-- \/test\/chaos\/results.md -->/.exec(text)?.[1];
  expect(shown?.trim()).toBe(readFileSync("test/chaos/results.md", "utf8").trim());
});
