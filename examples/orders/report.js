"use strict";

const { table, getBorderCharacters } = require("table");

const STATUSES = ["pending", "published", "consumed", "dead", "resolved"];
const PLAIN_EVERY_MS = 1000;

function print(rows) {
  process.stdout.write(
    table(rows, { border: getBorderCharacters("norc"), drawHorizontalLine: (at, count) => at < 2 || at === count })
  );
}

/** A line that updates on a terminal; elsewhere a line now and then. */
class Progress {
  started = Date.now();
  #saidAt = 0;
  #last = "";

  show(text) {
    const line = `${((Date.now() - this.started) / 1000).toFixed(1).padStart(5)} s  ${text}`;
    if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line.slice(0, process.stdout.columns - 1)}`);
    else if (text !== this.#last && Date.now() - this.#saidAt > PLAIN_EVERY_MS) {
      this.#saidAt = Date.now();
      this.#last = text;
      console.log(line);
    }
  }

  /** Something worth a line of its own. */
  say(text) {
    console.log(
      `${process.stdout.isTTY ? "\r\x1b[K" : ""}${((Date.now() - this.started) / 1000).toFixed(1).padStart(5)} s  ${text}`
    );
  }
}

function states(stats) {
  print([STATUSES, STATUSES.map(status => stats[status] ?? 0)]);
}

/** How many messages needed how many attempts. */
function attempts(rows) {
  const counts = new Map();
  for (const row of rows) counts.set(row.attempts, (counts.get(row.attempts) ?? 0) + 1);
  print([["attempts", "messages"], ...[...counts].sort(([a], [b]) => a - b)]);
}

function dead(rows) {
  print([
    ["id", "failed in", "attempts", "reason"],
    ...rows.map(row => [row.id, row.failed, `${row.attempts} of ${row.maxAttempts}`, row.reason])
  ]);
}

function story({ id, timeline }) {
  console.log(`What happened to ${id}:`);
  for (const { at, what } of timeline) console.log(`  ${at.slice(11, 23)}  ${what}`);
}

/**
 * Compares what was ordered with what was emitted, reserved and mailed. Returns whether nothing is missing anywhere.
 */
function account(ordered, journals) {
  let complete = true;
  const rows = Object.entries(journals).map(([name, lines]) => {
    const ids = new Set(lines);
    const missing = ordered.filter(id => !ids.has(id));
    const unexpected = [...ids].filter(id => !ordered.includes(id));
    if (missing.length || unexpected.length) complete = false;
    return [
      name,
      ids.size,
      missing.length ? missing.slice(0, 5).join(" ") : "none",
      unexpected.length,
      lines.length - ids.size
    ];
  });
  print([["", "orders", "missing", "unexpected", "done twice"], ["ordered", ordered.length, "", "", ""], ...rows]);
  return complete;
}

module.exports = { Progress, print, states, attempts, dead, story, account };
