import { ReliableError } from "../../errors";
import { keyFault } from "../../message/keys";
import { isFinal, STATUS, STATUSES, type Status } from "../../message/lifecycle";
import type { GroupList, ListQuery, Position } from "../store-records";
import { pathOf } from "./codec";
import { type Database, EPOCH, type Filter } from "./collection";
import { instantOf, labelsOf, textOf } from "./queries";

/** What a query looks for, and how an index finds it. */
export interface Search {
  filter: Filter;
  /** The same in parts, to be counted. */
  parts: Filter[];
  statuses: Status[];
  /**
   * Reads that are merged: each in the order of an index, whatever the history. The order of instants is that of one
   * status, of one message key, or of one request.
   */
  ranges: Filter[];
  /** What of each range the index finds by itself; not there if that is all of it, or in the order of ids. */
  indexed?: Filter[];
  /** By what the rows come, the greatest first. */
  order: "at" | "_id";
  /** Nothing but statuses is asked for. */
  isPlain: boolean;
  cursor?: Position;
}

/** Throws RELIABLE_BAD_OPTION: only plain values reach a filter. */
export async function searchOf(db: Database, query: ListQuery): Promise<Search> {
  const statuses = statusesOf(query);
  const filter: Filter = {};
  if (query.event !== undefined) filter.event = textOf("event", query.event);
  if (query.producer !== undefined) filter.producer = textOf("producer", query.producer);
  if (query.after || query.before) filter.at = betweenOf(query);
  if (query.requestID !== undefined) filter["origin.requestID"] = textOf("requestID", query.requestID);
  const $and: Filter[] = [];
  if (query.group !== undefined) $and.push({ $or: await standings(db, textOf("group", query.group), query.groupIn) });
  const keys = (query.keys ?? []).map(keyOf);
  // One serves the index; NeDB knows no `$all`.
  if (keys.length) filter.keys = keys[0];
  $and.push(...keys.slice(1).map(keys => ({ keys })));
  const error = errorOf(query);
  if (error) $and.push(error);
  if ($and.length) filter.$and = $and;
  const isPlain = !Object.keys(filter).length && !query.ids && query.idPrefix === undefined;
  const { cursor } = query;
  const found = { statuses, isPlain, ...(cursor && { cursor: positionOf(cursor) }) };
  const isAll = statuses.length === STATUSES.length;
  const among: Filter = isAll ? filter : { ...filter, status: { $in: statuses } };
  if (query.ids || query.idPrefix !== undefined) {
    const _id = query.ids ? { $in: query.ids.map(id => textOf("ids", id)) } : beginning(query.idPrefix);
    const byId = { ...among, _id };
    return { ...found, filter: byId, parts: [byId], ranges: [byId], order: "_id" };
  }
  const at: Filter = { at: { $gte: EPOCH, ...(filter.at as Filter | undefined) } };
  if (keys.length || query.requestID !== undefined) {
    const one = keys.length ? "keys" : "origin.requestID";
    const indexed = isMore(among, one) && { indexed: [{ [one]: filter[one], ...at }] };
    return { ...found, filter: among, parts: [among], ranges: [among], ...indexed, order: "at" };
  }
  return {
    ...found,
    ...(isMore(filter) && { indexed: statuses.map(status => ({ status, ...at })) }),
    // Without the statuses every row would be read.
    filter: { ...filter, status: { $in: statuses } },
    parts: partsOf(statuses).map(status => ({ ...filter, status })),
    // Not every server reads the index in its order where nothing is asked of the instant.
    ranges: statuses.map(status => ({ ...filter, status, ...at })),
    order: "at"
  };
}

/** Something is asked for that is in no index together with these. */
function isMore(filter: Filter, ...indexed: string[]): boolean {
  return Object.keys(filter).some(name => name !== "at" && !indexed.includes(name));
}

/** Of several statuses not every server stops counting at a limit: those of which there may be millions stand alone. */
export function partsOf(statuses: Status[]): (Status | { $in: Status[] })[] {
  const live = statuses.filter(status => !isFinal(status));
  return [...(live.length ? [{ $in: live }] : []), ...statuses.filter(isFinal)];
}

function statusesOf(query: ListQuery): Status[] {
  const asked = [...new Set([query.status ?? [...STATUSES]].flat())].map(each => textOf("status", each)) as Status[];
  const { errorType, cause, errorText } = query;
  return errorType === undefined && cause === undefined && errorText === undefined
    ? asked
    : asked.filter(status => status === STATUS.dead);
}

function betweenOf({ after, before }: ListQuery): Filter {
  return {
    ...(after && { $gte: instantOf("after", after) }),
    ...(before && { $lt: instantOf("before", before) })
  };
}

/** All that is asked about an error is about one and the same. */
function errorOf({ errorType, cause, errorText, group, groupIn }: ListQuery): Filter | undefined {
  const parts: Filter = {
    ...(errorType !== undefined && { type: textOf("errorType", errorType) }),
    ...(cause !== undefined && { cause: textOf("cause", cause) }),
    ...(errorText !== undefined && { text: textOf("errorText", errorText) })
  };
  if (!Object.keys(parts).length) return undefined;
  // A group that waits for the message has no error.
  const ofGroup = group !== undefined && (!groupIn || groupIn.includes("failed"));
  const $elemMatch = { ...parts, ...(ofGroup && { group: labelsOf(group) }) };
  // The index is on the type alone.
  return { ...(parts.type !== undefined && { "lastErrors.type": parts.type }), lastErrors: { $elemMatch } };
}

function keyOf(key: unknown): string {
  const fault = keyFault(key);
  if (fault === undefined) return key as string;
  throw new ReliableError("RELIABLE_BAD_OPTION", `A key of 'keys' ${fault}.`, { option: "keys" });
}

/** A range, and no pattern: up to the next text that begins otherwise. */
function beginning(given: unknown): Filter {
  const prefix = textOf("idPrefix", given);
  const last = prefix.charCodeAt(prefix.length - 1);
  // Above it are halves of characters, which are no text by themselves.
  const after = last < 0xd7ff ? prefix.slice(0, -1) + String.fromCharCode(last + 1) : `${prefix}\u{10ffff}`;
  return { $gte: prefix, $lt: after };
}

function positionOf({ at, id }: Position): Position {
  return { at: instantOf("cursor", at), id: textOf("cursor", id) };
}

async function standings(
  db: Database,
  group: string,
  groupIn: GroupList[] = ["waiting", "failed", "handled"]
): Promise<Filter[]> {
  const labelled = labelsOf(group);
  const owing = groupIn.flatMap(list => (list === "handled" ? [] : [{ [list]: labelled }]));
  if (!groupIn.includes("handled")) return owing;
  // Field names cannot be matched by pattern, so the possible labels come from the subscriptions.
  const known = (await db.collections.subscriptions.find({ group: labelled }, { fields: ["group"] })).map(
    doc => doc.group as string
  );
  const receipts = [...new Set([group, ...known])].map(label => ({ [pathOf("receipts", label)]: { $exists: true } }));
  return [...owing, ...receipts];
}
