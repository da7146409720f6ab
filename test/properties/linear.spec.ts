import { expect, it } from "vitest";
import { redact, sanitizeError } from "../../src/errors";
import { boundedText, describeError } from "../../src/message/failure-text";
import { matches } from "../../src/message/pattern";
import { listTable } from "../../src/operator/repl/find-tables";
import { parkedText, storyText } from "../../src/operator/repl/tables";
import { hasControl, printable, printableLines } from "../../src/platform/printable";
import { parseAnnouncement } from "../../src/wire/announcement";
import { parseObject, Unreadable } from "../../src/wire/json";
import { parseReceipts } from "../../src/wire/receipt";

/** Texts on which a careless search begins anew at each character. */
const TEXTS: [what: string, text: (length: number) => string][] = [
  ["one letter", length => "a".repeat(length)],
  ["addresses without an end", length => "a://".repeat(length / 4)],
  ["half addresses", length => "a:/@".repeat(length / 4)],
  ["addresses in lines", length => "amqp://u:p \n".repeat(length / 12)],
  ["blanks", length => " ".repeat(length)],
  ["control characters", length => "\u001b".repeat(length)],
  ["dots and stars", length => "a.*".repeat(length / 3)],
  ["backslashes", length => "\\u".repeat(length / 2)]
];

const unreadable = (parse: () => unknown) => {
  try {
    return parse();
  } catch (error) {
    if (error instanceof Unreadable) return undefined;
    throw error;
  }
};
const row = (text: string) => ({ id: "1", event: text, reason: text }) as never;

const FUNCTIONS: [name: string, run: (text: string) => unknown][] = [
  ["redact", redact],
  ["sanitizeError", text => sanitizeError(Object.assign(new Error(text), { stack: text }))],
  ["describeError", text => describeError({ name: text, message: text, stack: text, code: text, data: text })],
  ["boundedText", text => boundedText(text, 1_000_000)],
  ["hasControl", hasControl],
  ["printable", printable],
  ["printableLines", printableLines],
  ["matches an exact pattern", text => matches(text, "order.created")],
  ["matches **", text => matches(text, "**.a.**.b.**.c")],
  ["matches stars in words", text => matches(text.slice(0, 255), "a*b*c*d")],
  ["parseObject", text => unreadable(() => parseObject(JSON.stringify({ [text]: text }), "meta"))],
  [
    "parseReceipts",
    text =>
      unreadable(() => parseReceipts(Buffer.from(JSON.stringify({ v: 1, group: text, nodeID: text, items: [text] }))))
  ],
  [
    "parseAnnouncement",
    text =>
      unreadable(() =>
        parseAnnouncement(
          Buffer.from(JSON.stringify({ v: 1, pattern: text, group: text, queue: "q", nodeID: "n", service: "s" })),
          "p"
        )
      )
  ],
  ["a table's cells", text => listTable({ rows: [row(text)], total: 1 })],
  [
    "a story",
    text =>
      storyText({ timeline: [{ at: "now", what: text }], payload: text, meta: {}, groups: [], reason: text } as never)
  ],
  [
    "a parked message",
    text => parkedText({ body: text, encoding: "utf8", properties: {}, headers: { a: text }, reason: text })
  ]
];

/** The shortest of some runs, ms: what the machine does beside only makes a run longer. No more once it is `enough`. */
function shortest(run: (text: string) => unknown, text: string, enough = 2): number {
  let best = Infinity;
  for (let i = 0; i < 10; i++) {
    const started = performance.now();
    run(text);
    best = Math.min(best, performance.now() - started);
    if (best < enough) break;
  }
  return best;
}

it.each(FUNCTIONS)("%s takes a time in proportion to the text", { timeout: 400_000 }, (_, run) => {
  for (const [what, text] of TEXTS) {
    const short = shortest(run, text(100_000));
    // Ten times the text; a hundred times the time would be quadratic, and then many seconds at least.
    const limit = Math.max(50 * short, 2000);
    const long = shortest(run, text(1_000_000), limit);
    expect(long, `${what}: ${short.toFixed(2)} ms for 100 kB`).toBeLessThan(limit);
  }
});
