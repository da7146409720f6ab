/**
 * What a terminal or a log takes for commands or line ends, and what turns the direction of writing. No name or id has
 * them: nobody could type it. Nor has one half a surrogate pair, which every server would store as U+FFFD, so that two
 * names could become one.
 */
const CONTROL = /[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;

const UNPRINTABLE = new RegExp(CONTROL, "gu");

const ESCAPES = new Map<string, string>();

function escaped(char: string): string {
  let text = ESCAPES.get(char);
  if (!text) ESCAPES.set(char, (text = `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`));
  return text;
}

export function hasControl(text: string): boolean {
  return CONTROL.test(text);
}

/**
 * Text of others on its way to a terminal or a log: on one line, and without what either takes for a command. Every
 * such text passes here.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escaped);
}

/** The same for text of several lines, whose line ends and tabs are ours. */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE, char => (char === "\n" || char === "\t" ? char : escaped(char)));
}
