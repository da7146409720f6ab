import { readFileSync } from "node:fs";
import { ANSWERS, COMMANDS, mayAnswer } from "./answers";
import { type Fault, MODES, type Mode, type Outcome } from "./play";

export const TABLE = "docs/mongodb-answers.md";

export const FAULTS: Fault[] = COMMANDS.flatMap(command =>
  ANSWERS.filter(answer => mayAnswer(answer, command)).flatMap(answer =>
    MODES.map((mode): Fault => ({ command, answer, mode }))
  )
);

const HEAD = `# What MongoDB answers, and what comes of it

Made by \`npm run test:answers -- -u\`, and checked by \`npm run test:answers\`; do not edit. The test gives each answer to each command of a scenario that uses every verb of the store
(\`test/answers/scenario.ts\`): **once** to the first such command of each step, and **for good** to every one until the caller has been told, or six times where the driver repeats by itself.
The caller does again what was refused. Told: the errors that callers got. The end state is what all collections hold at the end, but for large bodies of tries that were given up, which no row names and which are pruned some day.

- \`RELIABLE_UNAVAILABLE\` may be repeated, and the library does so by itself: the outcome is unknown. \`RELIABLE_ACCESS_REFUSED\` and \`RELIABLE_STORE_REFUSED\` say that nothing was written; they are no permanent stop.
- *nobody*: the driver, the store or the caller's \`withTransaction\` has repeated it; for an index, the store makes it later and works without it meanwhile.
- *a count that is capped*: the caller gets his page; its total is a number with "or more".
- *the driver's …*: in the caller's own transaction the caller gets the driver's error of his own commands.
- A late answer is a command that the server does after 25 s, when its caller has given up and gone on. It changes nothing then, with one exception that no filter prevents: a message that was stored by the repetition,
  and discarded within these seconds, is there again, for the human to see.

`;

const row = (cells: string[]) => `| ${cells.join(" | ")} |`;

export function cellOf({ told }: Pick<Outcome, "told">): string {
  return told.length ? told.map(type => (type.startsWith("RELIABLE_") ? `\`${type}\`` : type)).join(", ") : "nobody";
}

function rowsOf(cell: (fault: Fault) => string, endState: (fault: Fault) => string): string[] {
  const groups = new Map<string, Fault[]>();
  for (const fault of FAULTS) {
    const key = row([`\`${fault.command}\``, fault.answer.name]);
    groups.set(key, [...(groups.get(key) ?? []), fault]);
  }
  return [...groups.values()].map(faults => {
    const [{ command, answer }] = faults as [Fault];
    return row([`\`${command}\``, answer.name, ...faults.map(cell), [...new Set(faults.map(endState))].join(", ")]);
  });
}

export function tableOf(cell: (fault: Fault) => string, endState: (fault: Fault) => string): string {
  const head = ["command", "answer", "told, once", "told, for good", "end state"];
  return `${HEAD}${[row(head), row(head.map(() => "---")), ...rowsOf(cell, endState)].join("\n")}\n`;
}

/** What the page says of it. */
export function writtenOf({ command, answer, mode }: Fault): string | undefined {
  const start = `| \`${command}\` | ${answer.name} | `;
  const line = readFileSync(TABLE, "utf8")
    .split("\n")
    .find(text => text.startsWith(start));
  return line?.slice(start.length).split(" | ")[MODES.indexOf(mode satisfies Mode)];
}
