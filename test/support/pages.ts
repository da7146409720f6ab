import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

const below = (folder: string) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter(name => name.endsWith(".md") && !name.includes("node_modules"))
    .map(name => path.posix.join(folder, name));

/** Every page of this repository that people read. */
export const PAGES = [
  ...readdirSync(".").filter(name => name.endsWith(".md")),
  ...["docs", "test", "examples", "bench"].flatMap(below)
].toSorted();

/** Those that tell a user what to do. */
export const USER_PAGES = PAGES.filter(page => page === "README.md" || page.startsWith("docs/guide/"));

export const README = "README.md";

export function guide(name: string): string {
  return `docs/guide/${name}.md`;
}

export function textOf(page: string): string {
  return readFileSync(page, "utf8");
}

export interface CodeBlock {
  page: string;
  language: string;
  code: string;
}

export function codeBlocks(page: string, language?: string): CodeBlock[] {
  return [...textOf(page).matchAll(/^```(\w*)[^\n]*\n([\s\S]*?)\n```$/gm)]
    .map(([, name, code]) => ({ page, language: name as string, code: code as string }))
    .filter(block => language === undefined || block.language === language);
}

/** The page without its code blocks. */
export function proseOf(page: string): string {
  return textOf(page).replace(/^```[\s\S]*?^```$/gm, "");
}

/** The first code block after a heading. */
export function codeAfter(heading: string, language: string, page = README): string {
  const text = textOf(page);
  const from = text.indexOf(`\n${heading}\n`);
  const block = from < 0 ? null : new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\n\`\`\``).exec(text.slice(from));
  if (!block?.[1]) throw new Error(`${page} has no ${language} block under '${heading}'`);
  return block[1];
}

/** The rows of the table whose head begins with these words; cells without their code marks. */
export function rowsOf(head: string, page: string): string[][] {
  const lines = textOf(page).split("\n");
  const from = lines.findIndex(line => line.startsWith(`| ${head} |`));
  if (from < 0) throw new Error(`${page} has no table that begins with '| ${head} |'`);
  const rest = [...lines.slice(from + 2), ""];
  return rest
    .slice(
      0,
      rest.findIndex(line => !line.startsWith("|"))
    )
    .map(line =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map(cell => cell.trim().replace(/^`([^`]*)`$/, "$1"))
    );
}

/** Of headings, as GitHub makes them. */
export function anchorsOf(page: string): string[] {
  const seen = new Map<string, number>();
  return [...proseOf(page).matchAll(/^#+ (.+)$/gm)].map(([, title]) => {
    const anchor = (title as string)
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_\- ]/gu, "")
      .replaceAll(" ", "-");
    const before = seen.get(anchor) ?? 0;
    seen.set(anchor, before + 1);
    return before ? `${anchor}-${before}` : anchor;
  });
}
