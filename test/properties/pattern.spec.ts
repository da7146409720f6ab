import { Utils } from "moleculer";
import { expect, it } from "vitest";
import { bindingKey, matches, topicMatcher } from "../../src/message/pattern";

const moleculers = (Utils as unknown as { match(event: string, pattern: string): boolean }).match;

const bound = (event: string, pattern: string) => topicMatcher(bindingKey(pattern))(event);

/** Word by word; a `**` may stand for any number of words and parts of them. */
function dotsAreDots(event: string, pattern: string): boolean {
  const source = pattern.replace(
    /\*\*|[*?.]/g,
    part => ({ "**": ".*", "*": "[^.]*", "?": ".", ".": "\\." })[part] as string
  );
  return new RegExp(`^${source}$`).test(event);
}

/** A fixed sequence of numbers, so that a failure can be seen again. */
function sequence(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

it("an event goes to the handlers that Moleculer would give it to, and is routed to them", () => {
  const next = sequence(7);
  const pick = <T>(from: readonly T[]): T => from[next(from.length)] as T;
  const words = ["a", "b", "ab", "abc", ""] as const;
  const parts = [...words, "*", "**", "?", "a*", "*b", "a?c", "a**", "**b", "*?", "a*c"] as const;
  const wrong = new Set<string>();
  let taken = 0;
  for (let i = 0; i < 60_000; i++) {
    const event = Array.from({ length: 1 + next(4) }, () => pick(words)).join(".");
    const pattern = Array.from({ length: 1 + next(4) }, () => pick(parts)).join(".");
    if (!event || !pattern) continue;
    const ours = matches(event, pattern);
    const theirs = moleculers(event, pattern);
    const faults = [
      ours && !theirs && "not Moleculer's",
      ours && !bound(event, pattern) && "not routed",
      theirs && dotsAreDots(event, pattern) && !ours && "missed"
    ];
    for (const fault of faults) if (fault) wrong.add(`${event} ~ ${pattern} (${bindingKey(pattern)}): ${fault}`);
    taken += Number(ours);
  }
  expect([...wrong]).toEqual([]);
  expect(taken).toBeGreaterThan(1000);
});

it("takes no longer for many wildcards than for one", () => {
  // With a regular expression, or by trying every split, none of these would end in a lifetime.
  const many = Array(60).fill("**").join(".");
  const event = Array(40).fill("word").join(".");
  expect(matches(event, `${many}.x`)).toBe(false);
  expect(matches(`${event}.${event}`, many)).toBe(true);
  expect(matches(event, many)).toBe(false);
  expect(topicMatcher(`${Array(60).fill("#").join(".")}.x`)(event)).toBe(false);
});
