import { Utils } from "moleculer";

type Match = (event: string, pattern: string) => boolean;

const matchers = new Map<string, (event: string) => boolean>();

/**
 * Whether an event goes to the handlers of a Moleculer event pattern. This is Moleculer's own rule, as far as an AMQP
 * binding can express it. The one difference: in a pattern with a wildcard before its end Moleculer takes a dot for any
 * character (`*.paid` also matches `unpaid`). Here a dot is a dot.
 */
export function matches(event: string, pattern: string): boolean {
  let matcher = matchers.get(pattern);
  if (!matcher) matchers.set(pattern, (matcher = matcherOf(pattern)));
  return matcher(event);
}

function matcherOf(pattern: string): (event: string) => boolean {
  // Moleculer's regular expression takes exponential time for many `**`. Compared word by word its rule is AMQP's,
  // except that a `**` is at least one word.
  if (!hasOddWords(pattern)) return topicMatcher(pattern.replace(/(?<=^|\.)\*\*(?=\.|$)/g, "*.#"));
  const topic = topicMatcher(bindingKey(pattern));
  return event => topic(event) && (Utils as unknown as { match: Match }).match(event, pattern);
}

/** Wildcards inside of words, and `?`, which also matches a dot. */
function hasOddWords(pattern: string): boolean {
  return pattern.split(".").some(word => /[*?#]/.test(word) && word !== "*" && word !== "**");
}

export function isWildcard(pattern: string): boolean {
  return /[*?]/.test(pattern);
}

/** The binding covers this one event. Other events that come through it were not routed here by their type. */
export function isExact(pattern: string): boolean {
  return !/[*#]/.test(bindingKey(pattern));
}

/** Each further wildcard multiplies the time that a regular expression may take for an event that does not match. */
const MAX_ODD_STARS = 3;

/**
 * Moleculer makes a regular expression of a pattern with wildcards, and throws at the first event if that is invalid.
 * `$` events stay on their node. A pattern with stars inside of words (`order*`) may have three runs of stars, because
 * every event is matched against it.
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
 * AMQP topic key that covers a Moleculer pattern. In Moleculer a wildcard may also stand inside a word, and `?` also
 * matches a dot; in AMQP wildcards are whole words. So the key may cover more than the pattern, and the consumer checks
 * each event with `matches`.
 */
export function bindingKey(pattern: string): string {
  if (pattern.includes("?")) return "#";
  const words = pattern.split(".");
  // A `**` that is only part of a word (`order**`) may match nothing or dots, and Moleculer lets `order*` match
  // `order.paid`.
  const last = words.at(-1) ?? "";
  if (words.some(word => word.includes("**") && word !== "**") || /[^*]\*$/.test(last)) return "#";
  return words.map(word => (word === "**" ? "#" : word.includes("*") ? "*" : word)).join(".");
}

/** AMQP topic keys: `*` is one word, `#` is any number of words, including none. */
export function topicMatcher(pattern: string): (key: string) => boolean {
  if (!/[*#]/.test(pattern)) return key => key === pattern;
  const words = pattern.split(".");
  return key => matchWords(words, key.split("."));
}

/** It goes back to the last `#` only: whatever an earlier one could match instead, the last one can match as well. */
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
 * handler then owes its own receipt. So a wildcard handler answers as `<group>:<pattern>` and an exact one as
 * `<group>`: two exact patterns never match the same event.
 */
export function consumerGroup(group: string, pattern: string): string {
  return isWildcard(pattern) ? `${group}:${pattern}` : group;
}

/** The group as its services name it, of the name under which one of its handlers answers. */
export function baseGroup(group: string): string {
  return group.split(":", 1)[0] as string;
}

/** `constructor`, `toString`, `__proto__`: every object seems to have them, so attempts by group would be none. */
export function isObjectKey(group: string): boolean {
  return group in {};
}

/** Whether a group named by an operator or by the `groups` option is this consumer group. */
export function namesGroup(named: string, group: string): boolean {
  return group === named || group.startsWith(`${named}:`);
}
