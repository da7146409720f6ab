import { FLAGS, type FlagName } from "./flags";
import { VERBS, type Verb, WORDS } from "./verbs";

/** Two columns, the first as wide as its widest text. */
function columns(rows: [left: string, right: string][]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join("\n");
}

const flag = (name: FlagName): [string, string] => [FLAGS[name].option, FLAGS[name].description];

const usage = (name: string, { takes }: Verb) => `${name}${WORDS[takes].text}`;

/** Of one subcommand. */
export function verbHelp(name: string, verb: Verb): string {
  return [`reliable ${usage(name, verb)}`, verb.about, "", columns([...verb.options, "node" as const].map(flag))].join(
    "\n"
  );
}

/** Of all. */
export function wholeHelp(): string {
  const rows = Object.entries(VERBS).map(([name, verb]): [string, string] => [
    usage(name, verb),
    verb.about.split("\n")[0] as string
  ]);
  return ["reliable [what] [id] [flags]", columns(rows), "", "Flags and limits of one: reliable help <what>"].join(
    "\n"
  );
}
