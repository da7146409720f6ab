import Validator from "fastest-validator";
import type { ServiceBroker } from "moleculer";
import { describe, expect, it } from "vitest";
import { reliableActions } from "../../mixins/reliable.actions";
import { reliableCommand } from "../../src/operator/repl/command";
import { codeBlocks, guide, proseOf, rowsOf, USER_PAGES } from "../support/pages";

type Params = Record<string, unknown>;

const validator = new Validator();
const actions = reliableActions as unknown as Record<string, { params: Params }>;

/** The commands for the REPL that a page tells: after its prompt, and in the text. */
function commandsOf(page: string): string[] {
  const typed = codeBlocks(page, "text").flatMap(({ code }) =>
    [...code.matchAll(/^mol \$ (.+?)(?: {2,}.*)?$/gm)].map(([, command]) => command as string)
  );
  const told = [...proseOf(page).matchAll(/`((?:call )?reliable(?:\.| )[a-z][^`]*)`/g)].map(
    ([, text]) => text as string
  );
  // `reliable.get` is a name; with `call` before it, it is a command. `reliable emit '…'` is a span.
  return [...typed, ...told.filter(text => text.includes(" ") && !/^reliable(\.| emit )/.test(text))];
}

function wordsOf(command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word ?? "");
}

/** Words and `--options`, as the REPL makes them. */
function parse(command: string): { words: string[]; options: Params } {
  const words: string[] = [];
  const options: Params = {};
  const given = wordsOf(command);
  for (let i = 0; i < given.length; i++) {
    const word = given[i] as string;
    if (!word.startsWith("--")) {
      words.push(word);
      continue;
    }
    const name = word.slice(2).replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
    const next = given[i + 1];
    const flag = next === undefined || next.startsWith("--") || ["dryRun", "force", "parked"].includes(name);
    options[name] = flag && !(name === "parked" && words[0] === "call") ? true : given[++i];
  }
  return { words, options };
}

/** Throws what the action would answer to such params. */
function called(action: string, params: Params): void {
  const name = action.replace(/^reliable\./, "");
  const schema = actions[name]?.params;
  if (!schema) throw new Error(`there is no action reliable.${name}`);
  const faults = validator.validate({ ...params }, schema as never);
  if (faults !== true) throw new Error(JSON.stringify(faults));
}

/** What comes of a command, up to the call of its action. */
async function tried(command: string): Promise<string> {
  const { words, options } = parse(command);
  try {
    if (words[0] === "call") {
      called(words[1] as string, options);
      return "called";
    }
    const broker = {
      call: async (action: string, params: Params) => {
        called(action, params);
        throw new Error("called");
      }
    } as unknown as ServiceBroker;
    const [, what, ...ids] = words;
    return (await reliableCommand(broker, { ...(what && { what }), ids, options })).replace(/^Error: /, "");
  } catch (error) {
    return (error as Error).message;
  }
}

describe.each(USER_PAGES.filter(page => commandsOf(page).length))("%s", page => {
  it.each(commandsOf(page))("%s", async command => {
    expect(await tried(command)).toBe("called");
  });
});

it("wrong commands would be found", async () => {
  const wrong = [
    "call reliable.lost",
    "call reliable.get",
    "call reliable.get --nr 1",
    "reliable lost",
    "reliable get x --all"
  ];
  for (const command of wrong) expect(await tried(command), command).not.toBe("called");
  expect(USER_PAGES.flatMap(commandsOf).length).toBeGreaterThan(25);
});

it("the table of commands knows every action that is for people", () => {
  const cells = rowsOf("action and command", guide("operating")).map(([cell]) => cell ?? "");
  const named = cells.flatMap(cell => [...cell.matchAll(/`?(\w+)/g)].map(([, name]) => name as string));
  // Asked by nodes: one without a store, and one that does not sweep.
  const ofNodes = ["statuses", "bulkLook"];
  const missing = Object.keys(actions).filter(name => !ofNodes.includes(name) && !named.includes(name));
  expect(missing).toEqual([]);
});
