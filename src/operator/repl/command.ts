import type { ServiceBroker } from "moleculer";
import { ReliableError, reasonOf } from "../../errors";
import { nearest } from "../../options/validate";
import { printableLines } from "../../platform/printable";
import { FLAGS, flagOf, paramOf } from "./flags";
import { verbHelp, wholeHelp } from "./help";
import { type Call, VERBS, type Verb, WORDS } from "./verbs";

/**
 * A custom command of moleculer-repl: fits `replCommands` of Moleculer 0.14 and `replOptions.customCommands` of 0.15.
 */
export interface ReplCommand {
  command: string;
  description: string;
  alias: string[];
  allowUnknownOptions: boolean;
  options: { option: string; description: string }[];
  parse(this: (args: string[]) => object, command: Commander): void;
  /** Moleculer's own type of `args` (string[]) is not what moleculer-repl hands over. */
  action: (broker: ServiceBroker, args: ReplArgs | string[]) => Promise<void>;
}

export interface ReplArgs {
  what?: string;
  ids?: string[];
  options?: Record<string, unknown>;
}

/** What of commander's command `parse` uses. */
interface Commander {
  args: string[];
  params?: ReplArgs;
  opts(): Record<string, unknown>;
  parseOptions(args: string[]): { operands: string[]; unknown: string[] };
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

/** Throws RELIABLE_BAD_OPTION for a flag that the subcommand does not have. */
function checkFlags(what: string, verb: Verb, options: Record<string, unknown>): void {
  const names: string[] = [...verb.options, "node"];
  const unknown = Object.keys(options).find(name => options[name] !== undefined && !names.includes(name));
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
  if (ids.length === 0 && (verb.takes === "id" || verb.takes === "group"))
    throw bad(
      `'reliable ${what}' needs ${verb.takes === "id" ? "an id" : "a group"}: reliable ${what}${WORDS[verb.takes].text}.`,
      verb.takes
    );
  if (!ids.length) return params;
  const [first, pattern] = ids;
  if (verb.takes === "group") return { ...params, group: first, ...(pattern !== undefined && { pattern }) };
  return { ...params, ...(ids.length > 1 ? { ids } : { id: first }) };
}

/** Carries out one command and returns what is to be printed. Never rejects: an error is a text too. */
export async function reliableCommand(
  broker: ServiceBroker,
  { what = "overview", ids = [], options = {} }: ReplArgs
): Promise<string> {
  try {
    if (what === "help") return ids[0] === undefined ? wholeHelp() : verbHelp(ids[0], verbOf(ids[0]));
    const verb = verbOf(what);
    if (options["help"]) return verbHelp(what, verb);
    checkFlags(what, verb, options);
    const { node, ...rest } = options;
    const params = paramsOf(what, verb, ids, rest);
    const call: Call = (action, given = {}) =>
      broker.call(`reliable.${action}`, given, {
        meta: { $repl: true },
        ...(typeof node === "string" ? { nodeID: node } : {})
      } as object);
    return printableLines(await verb.run(call, params));
  } catch (error) {
    return printableLines(errorText(error));
  }
}

function errorText(thrown: unknown): string {
  const { type, data } = (thrown ?? {}) as { type?: string; data?: unknown };
  if (type === "SERVICE_NOT_FOUND" || type === "SERVICE_NOT_AVAILABLE")
    return `No node with the service 'reliable' can be reached: it runs where a store is configured. (${reasonOf(thrown)})`;
  // Moleculer's validation error has what is wrong in its data only.
  const details =
    type === "VALIDATION_ERROR" && Array.isArray(data)
      ? withFlags([...new Set((data as { message?: string }[]).map(({ message }) => message ?? ""))].join(" "))
      : reasonOf(thrown);
  return `Error${type ? ` ${type}` : ""}: ${details}`;
}

/** The validator names params; here they were typed as flags. */
function withFlags(text: string): string {
  return text.replace(/'(\w+)'/g, (quoted, name: string) => (Object.hasOwn(FLAGS, name) ? flagOf(name) : quoted));
}

export const reliableReplCommands: ReplCommand[] = [
  {
    command: "reliable [what] [id]",
    description: `Guaranteed events: ${Object.keys(VERBS).join(", ")}. More of each: reliable help <what>`,
    alias: [],
    // `checkFlags` reports an unknown one, with a suggestion.
    allowUnknownOptions: true,
    options: Object.values(FLAGS),
    parse(command) {
      const { operands, unknown } = command.parseOptions(command.args);
      command.params = { what: operands[0], ids: operands.slice(1), options: { ...this(unknown), ...command.opts() } };
    },
    async action(broker, args) {
      console.log(await reliableCommand(broker, args as ReplArgs));
    }
  }
];
