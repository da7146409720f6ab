import { readFileSync } from "node:fs";
import type { Db } from "mongodb";
import { isExact, matches, namesGroup } from "../../src/message/pattern";
import { keyOf, readJournals } from "../chaos/journal";
import { GROUPS, OWING, type Places } from "./load";
import { type Forged, idOf, MARK } from "./stranger";

/** What became of the load and of what the stranger wrote; every list is empty when all is well. */
export interface Verdict {
  promised: number;
  /** Promised, and not handled by a group that owes a receipt. */
  lost: string[];
  /** Promised, handled, and not `consumed`. */
  open: string[];
  errors: string[];
  /** Of the stranger: neither parked, nor handled, nor in a row, nor for nobody. */
  vanished: string[];
  parked: number;
}

/** Statuses of the promised, by id. */
export async function statusesOf(db: Db, prefix: string): Promise<Map<string, string>> {
  const rows = await db
    .collection<{ _id: string; status: string }>(`${prefix}.messages`)
    .find({}, { projection: { status: 1 } })
    .toArray();
  return new Map(rows.map(({ _id, status }) => [_id, status]));
}

export async function judge(
  db: Db,
  prefix: string,
  journals: string[],
  forged: Map<number, Forged>,
  places: Places
): Promise<Verdict> {
  const journal = readJournals(journals);
  const statuses = await statusesOf(db, prefix);
  const lost: string[] = [];
  const open: string[] = [];
  for (const id of journal.promised.keys()) {
    const { event = "", strategy = "" } = journal.attempted.get(id) ?? {};
    const missing = (OWING[event] ?? []).filter(group => !journal.handled.has(keyOf(group, id)));
    const status = statuses.get(id) ?? "no row";
    if (missing.length) lost.push(`${id} (${event}, ${strategy}, ${status}): not by ${missing.join(", ")}`);
    else if (status !== "consumed") open.push(`${id} (${event}, ${strategy}): ${status}`);
  }
  const { marks, ids, count } = await parkedOf(db, prefix);
  for (const id of [...statuses.keys(), ...strangersOf(journals)]) ids.add(id);
  const vanished = [...forged]
    .filter(([n, message]) => !marks.has(n) && !idsIn(n, message).some(id => ids.has(id)))
    .filter(([, message]) => !isForNobody(message, places))
    .map(([n, message]) => `${n}: ${describe(message)}`);
  return { promised: journal.promised.size, lost, open, errors: journal.errors, vanished, parked: count };
}

export const describe = ({ kind, done, exchange, routingKey, properties, headers, body }: Forged): string =>
  `${kind} (${done.join(", ")}) to ${exchange || routingKey}: ${JSON.stringify(properties).slice(0, 400)} ${JSON.stringify(headers).slice(0, 400)} ${body.length} bytes ${JSON.stringify(body.subarray(0, 300).toString())}`;

/** Marks of the parked messages; and the ids that parked receipts are about, which a handler that failed has sent. */
async function parkedOf(db: Db, prefix: string): Promise<{ marks: Set<number>; ids: Set<string>; count: number }> {
  const marks = new Set<number>();
  const ids = new Set<string>();
  let count = 0;
  const rows = db
    .collection<{ _id: string; properties: string; headers: string; reason: string }>(`${prefix}.parked`)
    .find({}, { projection: { properties: 1, headers: 1, reason: 1 } });
  for await (const { _id, properties, headers, reason } of rows) {
    count++;
    // Of one that says of itself that it is parked; and one that was put back into its queue has its own headers only.
    ids.add(_id);
    ids.add(String((JSON.parse(properties) as { messageId?: unknown }).messageId));
    const mark = new RegExp(`${MARK}\\W+(\\d+)`).exec(headers);
    if (mark) marks.add(Number(mark[1]));
    else for (const [id] of reason.matchAll(/strange-[\d.]+\d/g)) ids.add(id);
  }
  return { marks, ids, count };
}

/** The ids under which it may be known: its own, and those that it is about. */
function idsIn(n: number, { properties, body }: Forged): string[] {
  const own = [idOf(n), String(properties["messageId"])];
  try {
    // Of many checks the first line names them; their bodies follow.
    const [line = ""] = body.toString().split("\n", 1);
    const { id, items = [] } = JSON.parse(line) as { id?: unknown; items?: { id?: unknown }[] };
    return [...own, String(id), ...items.map(item => String(item.id))];
  } catch {
    return own;
  }
}

/** Ids with which a handler was reached. */
function strangersOf(journals: string[]): string[] {
  return journals
    .flatMap(file => readFileSync(file, "utf8").split("\n"))
    .filter(line => line.startsWith("S "))
    .map(line => (JSON.parse(line.slice(2)) as [string, string])[0]);
}

/** Acked by every consumer, by its words: another group is meant, or the pattern does not match. */
function isForNobody({ exchange, routingKey, properties, headers }: Forged, places: Places): boolean {
  const type = String(properties["type"]);
  // A wildcard's binding may bring what its pattern does not name. An exact pattern's reader parks that.
  if (exchange)
    return GROUPS.filter(({ pattern }) => matches(routingKey, pattern)).every(
      ({ name, pattern }) => (isExact(pattern) ? type === pattern : true) && !takes(name, pattern, type, headers)
    );
  const at = places.groups.indexOf(routingKey);
  const group = GROUPS[at];
  if (group) return !takes(group.name, group.pattern, type, headers);
  // A job needs no group, but may name one; and its queue has nowhere to leave what has expired.
  if (routingKey === places.jobs) return "x-reliable-only" in headers || "expiration" in properties;
  // The same as is known, or a later one of the same group and pattern: they have no id of their own in the store.
  return routingKey === places.announcements;
}

function takes(name: string, pattern: string, event: string, headers: Record<string, unknown>): boolean {
  const only = headers["x-reliable-only"];
  return (
    matches(event, pattern) &&
    (only === undefined ||
      String(only)
        .split(",")
        .some(one => namesGroup(one, name)))
  );
}
