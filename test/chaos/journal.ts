import { readFileSync } from "node:fs";

/**
 * What the nodes of a run have written down, a line each, before they did anything else:
 *
 *   A id at event strategy poison key   about to emit; key: its order key, if it has one
 *   P id at                         the emit resolved: a promise
 *   U id type                       the emit was rejected, outcome unknown
 *   N id type                       … nothing was stored
 *   C id at                         it was called off
 *   R id type                       … and that was refused
 *   L id group                      a delivery, looked up in the inbox
 *   H id group since at             handled; `since`: when the inbox was asked, or the handler began
 *   I id group at                   recorded: in the inbox, or in its row
 *   E                               ended in an orderly way
 *   X error                         an unhandled error
 *
 * Instants are microseconds of the machine's monotonic clock, the same in all processes.
 */
export interface Journal {
  attempted: Map<string, Attempt>;
  promised: Map<string, number>;
  /** Rejected with "nothing was stored", and never promised after that. */
  refused: Map<string, string>;
  unknown: Set<string>;
  /** Called off before they were sent. */
  cancelled: Set<string>;
  /** Times the emits were rejected, by type. */
  rejections: Map<string, number>;
  /** By `keyOf`. */
  handled: Map<string, Handling[]>;
  /** When the inbox had the id, first. */
  recorded: Map<string, number>;
  deliveries: Map<string, number>;
  errors: string[];
}

export interface Attempt {
  at: number;
  event: string;
  strategy: string;
  poison: boolean;
  orderKey?: string;
}

export interface Handling {
  since: number;
  at: number;
}

export const keyOf = (group: string, id: string): string => `${group} ${id}`;

export function readJournals(files: string[]): Journal {
  const journal: Journal = {
    attempted: new Map(),
    promised: new Map(),
    refused: new Map(),
    unknown: new Set(),
    cancelled: new Set(),
    rejections: new Map(),
    handled: new Map(),
    recorded: new Map(),
    deliveries: new Map(),
    errors: []
  };
  // The last line of a node that was killed may lack its end; a write is all or nothing.
  for (const file of files) for (const line of readFileSync(file, "utf8").split("\n")) read(journal, line);
  for (const id of journal.promised.keys()) journal.refused.delete(id);
  return journal;
}

const count = (counts: Map<string, number>, key: string) => counts.set(key, (counts.get(key) ?? 0) + 1);

function read(journal: Journal, line: string): void {
  const [code, id, ...words] = line.split(" ");
  switch (code) {
    case "A":
      journal.attempted.set(id, {
        at: Number(words[0]),
        event: words[1],
        strategy: words[2],
        poison: words[3] === "1",
        ...(words[4] && { orderKey: words[4] })
      });
      break;
    case "P":
      journal.promised.set(id, Number(words[0]));
      break;
    case "U":
      journal.unknown.add(id);
      count(journal.rejections, words[0]);
      break;
    case "C":
      journal.cancelled.add(id);
      break;
    case "R":
      count(journal.rejections, words[0]);
      break;
    case "N":
      journal.refused.set(id, words[0]);
      count(journal.rejections, words[0]);
      break;
    case "L":
      count(journal.deliveries, keyOf(words[0], id));
      break;
    case "H": {
      const key = keyOf(words[0], id);
      const handling = { since: Number(words[1]), at: Number(words[2]) };
      const known = journal.handled.get(key);
      if (known) known.push(handling);
      else journal.handled.set(key, [handling]);
      break;
    }
    case "I": {
      const key = keyOf(words[0], id);
      const at = Number(words[1]);
      journal.recorded.set(key, Math.min(at, journal.recorded.get(key) ?? at));
      break;
    }
    case "X":
      journal.errors.push(JSON.parse(line.slice(2)) as string);
      break;
  }
}

/** The instant of the journals, here. */
export const monotonic = (): number => Number(process.hrtime.bigint() / 1000n);
