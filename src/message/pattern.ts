import { Utils } from "moleculer";

type Match = (event: string, pattern: string) => boolean;

const matchers = new Map<string, (event: string) => boolean>();

/**
 * Whether an event goes to the handlers of a Moleculer event pattern: Moleculer's own rule, as far as the binding
 * carries it. The one difference: in a pattern with a wildcard before its end Moleculer takes a dot for any character
 * (`*.paid` also matches `unpaid`), which no AMQP key can express; here a dot is a dot.
 */
export function matches(event: string, pattern: string): boolean {
  let matcher = matchers.get(pattern);
  if (!matcher) matchers.set(pattern, (matcher = matcherOf(pattern)));
  return matcher(event);
}

function matcherOf(pattern: string): (event: string) => boolean {
  // Moleculer's regular expression takes exponential time for many `**`. By whole words its rule is AMQP's, but that a
  // `**` is one word at least.
  if (!hasOddWords(pattern)) return topicMatcher(pattern.replace(/(?<=^|\.)\*\*(?=\.|$)/g, "*.#"));
  const topic = topicMatcher(bindingKey(pattern));
  return event => topic(event) && (Utils as unknown as { match: Match }).match(event, pattern);
}

/** Wildcards inside of words, and `?`, which stands for a dot too. */
function hasOddWords(pattern: string): boolean {
  return pattern.split(".").some(word => /[*?#]/.test(word) && word !== "*" && word !== "**");
}

export function isWildcard(pattern: string): boolean {
  return /[*?]/.test(pattern);
}

/** Its binding covers this one event: what else comes by it was not routed here by its type. */
export function isExact(pattern: string): boolean {
  return !/[*#]/.test(bindingKey(pattern));
}

/** Each further one multiplies the time that a regular expression may take for an event that does not match. */
const MAX_ODD_STARS = 3;

/**
 * Moleculer makes a regular expression of a pattern with wildcards, and throws at the first event where it is none. `$`
 * events stay on their node. With stars inside of words (`order*`) it may have three runs of stars, because every event
 * is matched against it.
 */
export function isPattern(pattern: string): boolean {
  if (pattern.startsWith("$")) return false;
  if (hasOddWords(pattern) && (pattern.match(/\*+/g) ?? []).length > MAX_ODD_STARS) return false;
  try {
    new RegExp(isWildcard(pattern) ? pattern.replace(/[*?]+/g, ".") : "");
    return true;
  } catch {
    return false;
  }
}

/**
 * AMQP topic key that covers a Moleculer pattern. Moleculer's wildcards also stand inside a word and `?` even for a
 * dot, AMQP's only for whole words, so the key may cover more than the pattern: the consumer checks each event with
 * `matches`.
 */
export function bindingKey(pattern: string): string {
  if (pattern.includes("?")) return "#";
  const words = pattern.split(".");
  // A `**` that is only part of a word (`order**`) may stand for nothing or for dots; and Moleculer lets `order*` match
  // `order.paid`.
  const last = words.at(-1) ?? "";
  if (words.some(word => word.includes("**") && word !== "**") || /[^*]\*$/.test(last)) return "#";
  return words.map(word => (word === "**" ? "#" : word.includes("*") ? "*" : word)).join(".");
}

/** AMQP topic keys: `*` is one word, `#` any number of them, none included. */
export function topicMatcher(pattern: string): (key: string) => boolean {
  if (!/[*#]/.test(pattern)) return key => key === pattern;
  const words = pattern.split(".");
  return key => matchWords(words, key.split("."));
}

/** Goes back to the last `#` only: what an earlier one could take instead, the last one can take as well. */
function matchWords(pattern: string[], key: string[]): boolean {
  let p = 0;
  let many: { p: number; k: number } | undefined;
  for (let k = 0; k < key.length; ) {
    if (pattern[p] === "#") many = { p: ++p, k };
    else if (p < pattern.length && (pattern[p] === "*" || pattern[p] === key[k])) {
      p++;
      k++;
    } else if (many) {
      p = many.p;
      k = ++many.k;
    } else return false;
  }
  while (pattern[p] === "#") p++;
  return p === pattern.length;
}

/**
 * The name under which a handler answers. Two patterns of one Moleculer group may match the same event, and each
 * handler then owes its own receipt; so a wildcard handler answers as `<group>:<pattern>`, an exact one as `<group>`
 * (two exact ones never match the same event).
 */
export function consumerGroup(group: string, pattern: string): string {
  return isWildcard(pattern) ? `${group}:${pattern}` : group;
}

/** Whether a group named by an operator or by the `groups` option means this consumer group. */
export function namesGroup(named: string, group: string): boolean {
  return group === named || group.startsWith(`${named}:`);
}
