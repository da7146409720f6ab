import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";

const LONGEST = 350;
const LONGEST_MIXIN = 120;

function filesIn(folder: string): { file: string; text: string }[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter(file => file.endsWith(".ts"))
    .map(file => path.posix.join(folder, file))
    .map(file => ({ file, text: readFileSync(file, "utf8") }));
}

function lines(text: string): number {
  return text.trimEnd().split("\n").length;
}

it.each([
  ["src", LONGEST],
  ["mixins", LONGEST_MIXIN]
])("no file in %s/ is longer than %i lines", (folder, longest) => {
  const tooLong = filesIn(folder).filter(({ text }) => lines(text) > longest);
  expect(tooLong.map(({ file, text }) => `${file}: ${lines(text)} lines`)).toEqual([]);
});

it("no test keeps others from running, and none is skipped but by skipUnsupported", () => {
  const found = filesIn("test").flatMap(({ file, text }) =>
    text
      .split("\n")
      .filter(
        line =>
          /\b(it|test|describe|suite)\.(only|skip|skipIf|todo|runIf)\b/.test(line) && file !== "test/unit/house.spec.ts"
      )
      .map(line => `${file}: ${line.trim()}`)
  );
  expect(found).toEqual([]);
});

it("no source uses the type `any` or has something left to do", async () => {
  const { parseSync, Visitor } = await import("vite");
  const found = ["src", "mixins"].flatMap(filesIn).flatMap(({ file, text }) => {
    const { program, comments } = parseSync(file, text);
    const faults = comments
      .filter(comment => /\b(TODO|FIXME|XXX)\b/.test(comment.value))
      .map(comment => `${file}: ${comment.value.trim()}`);
    new Visitor({
      TSAnyKeyword: node => void faults.push(`${file}:${text.slice(0, node.start).split("\n").length}: any`)
    }).visit(program);
    return faults;
  });
  expect(found).toEqual([]);
});
