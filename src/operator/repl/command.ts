import type { ServiceBroker } from "moleculer";
import { ReliableError } from "../../errors";
import { nearest } from "../../options/validate";
import { systemClock } from "../../platform/clock";
import { printableLines } from "../../platform/printable";
import type { Call } from "./call";
import { errorText } from "./error-text";
import { FLAGS, flagOf, paramOf } from "./flags";
import { verbHelp, wholeHelp } from "./help";
import { readLine, type Typed } from "./line";
import { openTerminal, type Terminal } from "./terminal";
import { VERBS, type Verb, WORDS } from "./verbs";

/**
 * A custom command of moleculer-repl: fits `replCommands` of Moleculer 0.14 and `replOptions.customCommands` of 0.15.
 */
export interface ReplCommand {
  command: string;
  description: string;
  alias: string[];
  allowUnknownOptions: boolean;
  options: { option: string; description: string }[];
  parse(command: Commander): void;
  /** Moleculer's own type of `args` (string[]) is not what moleculer-repl hands over. */
  action: (broker: ServiceBroker, args: ReplLine | string[]) => Promise<void>;
}

export interface ReplArgs {
  what?: string;
  ids?: string[];
  options?: Record<string, unknown>;
}

/** What of commander's command `parse` uses. */
interface Commander {
  name(): string;
  /** `rawArgs`: node, its script, and the whole line. */
  parent: { rawArgs: string[] };
  params?: ReplLine;
}

/** The words of one line, without the command. */
interface ReplLine {
  line: string[];
}

function bad(text: string, option: string, suggestion?: string): ReliableError {
  return new ReliableError("RELIABLE_BAD_OPTION", text, { option, suggestion });
}

const meant = (near: string | undefined) => (near === undefined ? "" : ` Did you mean ${near}?`);

/** Throws RELIABLE_BAD_OPTION for what is no subcommand. */
function verbOf(what: string): Verb {
  const verb = Object.hasOwn(VERBS, what) ? VERBS[what] : undefined;
  if (verb) return verb;
  const names = [...Object.keys(VERBS), "help"];
  const near = nearest(what, names);
  throw bad(`There is no 'reliable ${what}'.${meant(near && `'${near}'`)} There are: ${names.join(", ")}.`, what, near);
}

/** Throws RELIABLE_BAD_OPTION for a flag that the subcommand does not have, or takes once. */
function checkFlags(what: string, verb: Verb, options: Record<string, unknown>): void {
  const names: string[] = [...verb.options, "node"];
  const unknown = Object.keys(options).find(name => options[name] !== undefined && !names.includes(name));
  const twice = Object.keys(options).find(name => Array.isArray(options[name]) && !verb.lists?.includes(name));
  if (unknown === undefined && twice !== undefined)
    throw bad(`'reliable ${what}' takes one ${flagOf(twice)}, and it was given several times.`, twice);
  if (unknown === undefined) return;
  // One that another subcommand has is not mistyped.
  const near = Object.hasOwn(FLAGS, unknown) ? undefined : nearest(paramOf(unknown), names);
  throw bad(
    `'reliable ${what}' has no ${flagOf(unknown)}.${meant(near && flagOf(near))} It has: ${names.map(flagOf).join(", ")}.`,
    unknown,
    near
  );
}

/** The params of the verb's action. Throws RELIABLE_BAD_OPTION. */
function paramsOf(what: string, verb: Verb, ids: string[], params: Record<string, unknown>): Record<string, unknown> {
  const { most } = WORDS[verb.takes];
  if (ids.length > most) {
    const word = ids[most] as string;
    throw bad(`'reliable ${what}' does not know what '${word}' is for; see: reliable help ${what}.`, word);
  }
  const isGroup = verb.takes === "group" || verb.takes === "one group";
  const needed = verb.takes === "id" || verb.takes === "key" ? verb.takes : isGroup && "group";
  if (ids.length === 0 && needed)
    throw bad(
      `'reliable ${what}' needs ${needed === "id" ? "an" : "a"} ${needed}: reliable ${what}${WORDS[verb.takes].text}.`,
      needed
    );
  if (verb.takes === "bulk") return { ...params, words: ids };
  if (!ids.length) return params;
  const [first, pattern] = ids;
  if (verb.takes === "key" || verb.takes === "maybe key") return { ...params, key: first };
  if (isGroup) return { ...params, group: first, ...(pattern !== undefined && { pattern }) };
  return { ...params, ...(ids.length > 1 ? { ids } : { id: first }) };
}

/** Carries out one command and returns what is to be printed. Never rejects: an error is a text too. */
export async function reliableCommand(
  broker: ServiceBroker,
  { what = "overview", ids = [], options = {} }: ReplArgs,
  terminal?: () => Terminal | undefined
): Promise<string> {
  try {
    if (what === "help") return ids[0] === undefined ? wholeHelp() : verbHelp(ids[0], verbOf(ids[0]));
    const verb = verbOf(what);
    if (options["help"]) return verbHelp(what, verb);
    checkFlags(what, verb, options);
    const { node, requestId: requestID, ...rest } = options;
    // Moleculer's own spelling is no flag.
    const given = requestID === undefined ? rest : { ...rest, requestID };
    const params = paramsOf(what, verb, ids, given);
    const call: Call = (action, given = {}) =>
      broker.call(`reliable.${action}`, given, {
        meta: { $repl: true },
        ...(typeof node === "string" ? { nodeID: node } : {})
      } as object);
    return printableLines(await verb.run(call, params, terminal));
  } catch (error) {
    return printableLines(errorText(error));
  }
}

/** As it was typed. Never rejects either. */
export async function reliableLine(
  broker: ServiceBroker,
  line: readonly string[],
  terminal?: () => Terminal | undefined
): Promise<string> {
  let typed: Typed;
  try {
    typed = readLine(line);
  } catch (error) {
    return printableLines(errorText(error));
  }
  return reliableCommand(broker, typed, terminal);
}

/** For commander they need no value: it would print its usage, and moleculer-repl a stack. `readLine` says what is missing. */
const options = Object.values(FLAGS).map(({ option, description }) => ({
  option: option.replace(/<(.+)>/, "[$1]"),
  description
}));

export const reliableReplCommands: ReplCommand[] = [
  {
    command: "reliable [what] [id]",
    description: `Guaranteed events: ${Object.keys(VERBS).join(", ")}. More of each: reliable help <what>`,
    alias: [],
    // `checkFlags` reports an unknown one, with a suggestion.
    allowUnknownOptions: true,
    options,
    // Not from the options that commander has read: those of a line that did not run are still among them.
    parse(command) {
      const { rawArgs } = command.parent;
      command.params = { line: rawArgs.slice(rawArgs.indexOf(command.name(), 2) + 1) };
    },
    async action(broker, args) {
      const terminal = () => openTerminal(process.stdin, process.stdout, systemClock);
      console.log(await reliableLine(broker, (args as ReplLine).line, terminal));
    }
  }
];
