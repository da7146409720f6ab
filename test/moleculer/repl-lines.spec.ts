import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { stripVTControlCharacters } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { FLAGS, flagOf } from "../../src/operator/repl/flags";
import { VERBS, type Verb } from "../../src/operator/repl/verbs";
import { until } from "../support/brokers";
import { startNode, type TestNode } from "../support/child";

/** As one types it for each verb. */
const WORDS: Record<Verb["takes"], string> = {
  nothing: "",
  id: " order-1",
  "maybe id": "",
  ids: ' --id-prefix ord --note "only ten"',
  key: ' order-7 --note "by hand"',
  "maybe key": " order-7",
  group: ' mail --note "not now"',
  "one group": " mail --from-at 2026-11-26",
  bulk: " b"
};
const GOOD = [
  ...Object.entries(VERBS).map(([name, { takes }]) => `reliable ${name}${WORDS[takes]}`),
  "reliable retry order-1 order-2",
  "reliable"
];

const names = Object.keys(FLAGS) as (keyof typeof FLAGS)[];
const valued = names.filter(name => FLAGS[name].option.includes("<"));
/** Every flag there is. */
const all = names.map(name => (valued.includes(name) ? `${flagOf(name)} 7` : flagOf(name))).join(" ");

/** None of them runs. */
const ENDS = ["--note", "--help", "--nope"];
const BAD = [
  ...Object.keys(VERBS).map((name, n) => `reliable ${name} ${all} ${ENDS[n % ENDS.length]}`),
  ...ENDS.map(end => `reliable discard --event stuck --yes ${end}`),
  ...valued.map(name => `reliable list --yes --event stuck ${flagOf(name)}`)
];

async function startSession(env: Record<string, string>): Promise<TestNode> {
  const home = mkdtempSync(path.join(tmpdir(), "repl-"));
  onTestFinished(() => rmSync(home, { recursive: true, force: true }));
  const session = await startNode("test/support/repl-lines-node.ts", {
    stdin: true,
    env: { HOME: home, FORCE_COLOR: "0", ...env }
  });
  await session.next("ready");
  await until(
    () => session.output,
    said => said.trimEnd().endsWith("mol $")
  );
  return session;
}

/** What a line prints, calls included. */
async function typed(session: TestNode, line: string): Promise<string> {
  const from = session.output.length;
  session.type(line);
  const printed = () => stripVTControlCharacters(session.output.slice(from));
  return until(printed, said => said.trimEnd().endsWith("mol $"));
}

it.each([
  ["", {}],
  [", whose commander keeps the values of a line", { KEEPS_VALUES: "1" }]
])("a line that did not run leaves nothing to the next one, in a REPL%s", { timeout: 400_000 }, async (_, env) => {
  const session = await startSession(env);
  const alone = new Map<string, string>();
  for (const line of GOOD) {
    alone.set(line, await typed(session, line));
    expect(alone.get(line), line).toContain("called: reliable.");
  }
  for (const [n, bad] of BAD.entries()) {
    const refused = await typed(session, bad);
    expect(refused, bad).not.toMatch(/called: |\n\s+at /);
    const good = GOOD[n % GOOD.length] as string;
    expect(await typed(session, good), `${good}, after ${bad}`).toBe(alone.get(good));
  }
});
