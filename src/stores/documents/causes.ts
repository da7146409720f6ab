import { STATUS } from "../../message/lifecycle";
import type { LastError } from "../../message/message";
import type { Cause, Causes, ListQuery } from "../store-records";
import type { Collection, Database, Doc } from "./collection";
import { newestFrom, startingAt } from "./newest";
import { labelsOf } from "./queries";
import { type Search, searchOf } from "./search";

/** Of each cause. */
const NODES = 10;

/** Of what the newest dead messages died: one with several failed groups counts for each of them. */
export async function causes(db: Database, query: ListQuery, most: number): Promise<Causes> {
  const asked: ListQuery = { ...query, status: STATUS.dead, groupIn: ["failed"] };
  const search = await searchOf(db, asked);
  const { messages } = db.collections;
  const from = await lookedAtFrom(messages, search, query, most);
  const rows = await messages.find(startingAt({ ...search.filter, status: STATUS.dead }, from), {
    sort: { at: -1 },
    limit: most + 1,
    fields: ["event", "lastErrors"]
  });
  const read = rows.slice(0, most);
  return { causes: causesOf(read, query), read: read.length, more: from !== undefined || rows.length > most };
}

/** Where an index finds what is asked for, however seldom it is, the newest of that are read; else, of all dead ones. */
async function lookedAtFrom(
  messages: Collection,
  { indexed, ranges }: Search,
  { keys, requestID, errorType }: ListQuery,
  most: number
): Promise<Date | undefined> {
  const [dead] = indexed ?? [];
  const isFound = keys?.length || requestID !== undefined || errorType !== undefined;
  return dead && ranges.length === 1 && !isFound ? newestFrom(messages, dead, most) : undefined;
}

type Grown = Cause & { seen: Set<string> };

/** The rows are the newest first. */
function causesOf(rows: Doc[], { group, errorType, cause, errorText }: ListQuery): Cause[] {
  const labelled = group === undefined ? undefined : labelsOf(group);
  const isMeant = (error: LastError) =>
    (!labelled || labelled.test(error.group)) &&
    (errorType === undefined || error.type === errorType) &&
    (cause === undefined || error.cause === cause) &&
    (errorText === undefined || error.text === errorText);
  const all = new Map<string, Grown>();
  for (const { _id, event, lastErrors } of rows)
    for (const error of (lastErrors ?? []) as LastError[]) if (isMeant(error)) count(all, _id, String(event), error);
  return [...all.values()]
    .map(({ seen, ...grown }) => ({
      ...grown,
      nodes: [...seen].slice(0, NODES),
      moreNodes: Math.max(0, seen.size - NODES)
    }))
    .sort((a, b) => b.count - a.count || b.lastAt.getTime() - a.lastAt.getTime());
}

function count(all: Map<string, Grown>, id: string, event: string, error: LastError): void {
  const { group, at, cause, name: errorName, type: errorType, text, nodeID } = error;
  const key = JSON.stringify([group, event, cause, errorType, text]);
  const known = all.get(key);
  if (known) {
    known.count++;
    if (at < known.firstAt) known.firstAt = at;
    if (at > known.lastAt) Object.assign(known, { lastAt: at, sampleId: id });
    if (nodeID !== undefined) known.seen.add(nodeID);
    return;
  }
  const seen = new Set(nodeID === undefined ? [] : [nodeID]);
  const grown = { group, event, cause, errorName, errorType, text, count: 1, firstAt: at, lastAt: at, sampleId: id };
  all.set(key, { ...grown, nodes: [], moreNodes: 0, seen });
}
