import { ReliableError } from "../../errors";
import { FLAGS, flagOf, paramOf } from "./flags";

/** What was typed: the verb, the words after it, and the flags, by the names of their params. */
export interface Typed {
  what?: string;
  ids: string[];
  /** A flag that came several times is a list. Unknown ones are among them, as they were typed. */
  options: Record<string, unknown>;
}

const SHORT = new Map(
  Object.entries(FLAGS).flatMap(([name, { option }]) => shortOf(option).map(short => [short, name]))
);

function shortOf(option: string): string[] {
  return /^-(\w),/.exec(option)?.slice(1) ?? [];
}

const takesValue = (name: string) => FLAGS[name as keyof typeof FLAGS].option.includes("<");

const isFlag = (word: string | undefined) => word !== undefined && /^(--(\S|$)|-[a-z])/i.test(word);

function bad(text: string, option: string): ReliableError {
  return new ReliableError("RELIABLE_BAD_OPTION", text, { option });
}

/**
 * Reads a line from its words alone: of the command's own values (commander's) moleculer-repl does not clear those of a
 * line that did not run. Throws RELIABLE_BAD_OPTION.
 */
export function readLine(line: readonly string[]): Typed {
  const rest = [...line];
  const words: string[] = [];
  const values = new Map<string, unknown[]>();
  const add = (name: string, value: unknown) => void values.set(name, [...(values.get(name) ?? []), value]);
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === "--") words.push(...rest.splice(0));
    else if (!isFlag(word)) words.push(word);
    else {
      const [name, given] = split(word);
      if (!Object.hasOwn(FLAGS, name)) add(name, given ?? (rest.length && !isFlag(rest[0]) ? rest.shift() : true));
      else if (!takesValue(name)) add(name, yesOrNo(name, given));
      else if (given !== undefined) add(name, given);
      else if (rest.length && !isFlag(rest[0])) add(name, rest.shift());
      else throw bad(noValue(name, rest[0]), name);
    }
  }
  const [what, ...ids] = words;
  const options = [...values].map(([name, all]) => [name, all.length > 1 && !isSameFlag(all) ? all : all[0]]);
  return { ...(what !== undefined && { what }), ids, options: Object.fromEntries(options) };
}

const isSameFlag = (all: unknown[]) => typeof all[0] === "boolean" && new Set(all).size === 1;

/** `--key=a=1`, `--key`, `-ka=1`, `-k=a=1`, `-k` */
function split(word: string): [name: string, value?: string] {
  const short = word.startsWith("--") ? undefined : SHORT.get(word.charAt(1));
  if (short !== undefined) return word.length > 2 ? [short, word.slice(2).replace(/^=/, "")] : [short];
  const [, flag = "", value] = /^--?([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
  return value === undefined ? [paramOf(flag)] : [paramOf(flag), value];
}

function yesOrNo(name: string, given: string | undefined): boolean {
  if (given === undefined || given === "true") return true;
  if (given === "false") return false;
  throw bad(`${flagOf(name)} takes no value: it was given '${given}'.`, name);
}

function noValue(name: string, next: string | undefined): string {
  const flag = flagOf(name);
  const like = next === undefined ? "" : ` One that begins with a dash is typed ${flag}="${next}".`;
  return `${flag} needs a value.${like}`;
}
