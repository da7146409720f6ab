import { readFileSync } from "node:fs";
import { environmentName, hasVariable } from "../../src/options/environment";
import { OPTIONS, type OptionName } from "../../src/options/options";

export const readme = readFileSync("README.md", "utf8");

/** The first code block after a heading. */
export function codeAfter(heading: string, language: string): string {
  const from = readme.indexOf(`\n${heading}\n`);
  const block = from < 0 ? null : new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\n\`\`\``).exec(readme.slice(from));
  if (!block?.[1]) throw new Error(`README.md has no ${language} block under '${heading}'`);
  return block[1];
}

/** The rows of the table whose head begins with these words; cells without their code marks. */
export function rowsOf(head: string): string[][] {
  const lines = readme.split("\n");
  const from = lines.findIndex(line => line.startsWith(`| ${head} |`));
  if (from < 0) throw new Error(`README.md has no table that begins with '| ${head} |'`);
  const rest = lines.slice(from + 2);
  return rest
    .slice(
      0,
      rest.findIndex(line => !line.startsWith("|"))
    )
    .map(line =>
      line
        .split("|")
        .slice(1, -1)
        .map(cell => cell.trim().replace(/^`|`$/g, ""))
    );
}

const code = (value: unknown): string =>
  value === undefined
    ? "–"
    : `\`${JSON.stringify(value)
        .replace(/"(\w+)":/g, "$1: ")
        .replace(/,/g, ", ")}\``;

/** The table of options as it must stand in the README. */
export function optionsTable(): string {
  const rows = (Object.keys(OPTIONS) as OptionName[]).map(name => {
    const spec: { scope: string; default?: unknown; doc: string } = OPTIONS[name];
    const variable = !hasVariable(name) ? "–" : `\`${environmentName(name)}\``;
    return `| \`${name}\` | ${spec.scope} | ${code(spec.default)} | ${variable} | ${spec.doc} |`;
  });
  return ["| option | scope | default | environment | what it is |", "| --- | --- | --- | --- | --- |", ...rows].join(
    "\n"
  );
}
