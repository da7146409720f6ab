import { ReliableError } from "../errors";
import type { Actor } from "./actor";
import type { ActingParts, ActParams, ActResult, IdOutcome } from "./acts";
import { audited, headOf, idsOf, needNote, notFound, type ParkedHead, parkedDiscardedOf, recordOf } from "./audit";
import { hasFilter } from "./filter";

/** A discard of parked messages, which has ids only. */
export interface DiscardParams extends ActParams {
  /** An id of a parked message, or several. Then `id`, `ids`, `limit` and the filter are not allowed. */
  parked?: string | string[];
}

/** A parked message has up to 4 MiB, and all of it is read. */
const PAGE = 8;

/** Deletes parked messages. An unknown id harms no other; one that was given alone rejects (RELIABLE_NOT_FOUND). */
export async function discardParked(
  parts: ActingParts,
  { parked, ...params }: DiscardParams & { parked: string | string[] },
  actor: Actor
): Promise<ActResult> {
  const { note, dryRun = false } = params;
  if (params.id !== undefined || params.ids || params.limit !== undefined || hasFilter(params))
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      "'discard' takes either 'parked' or ids and filters of messages, not both.",
      { option: "parked" }
    );
  if (!dryRun) needNote("discard", note, "why it may go; it is all that is left of a parked message");
  const { store } = parts;
  const given = [...new Set([parked].flat())];
  const heads = await headsOf(parts, given);
  const outcomes = await outcomesOf(parts, given, heads, parked);
  const ids = [...heads.keys()];
  const counts: Record<string, number> = { matched: ids.length, done: 0, lost: 0 };
  const result = (): ActResult => ({
    ...{ matched: ids.length, done: counts["done"] as number, lost: 0, dryRun, ids },
    outcomes: [...outcomes.values()]
  });
  if (dryRun || !ids.length) return result();
  if (outcomes.size > ids.length) counts["refused"] = outcomes.size - ids.length;
  const story = { ...actor, act: "discard" as const, note, parked: true as const, ...idsOf(ids) };
  const record = recordOf(store, story);
  record.counts = counts;
  await store.audits.begin(record);
  await audited(parts, record._id, counts, async () => {
    for (const [id, head] of heads) {
      await store.parked.discard(head, parkedDiscardedOf(head, record, store.now()));
      counts["done"] = (counts["done"] as number) + 1;
      outcomes.set(id, { id, outcome: "done" });
    }
  });
  return result();
}

/** Of those that are in the store, in the order of `ids`. */
async function headsOf({ store }: ActingParts, ids: string[]): Promise<Map<string, ParkedHead>> {
  const found = new Map<string, ParkedHead>();
  for (let from = 0; from < ids.length; from += PAGE)
    for (const parked of await store.parked.find(ids.slice(from, from + PAGE))) found.set(parked._id, headOf(parked));
  return new Map(ids.flatMap(id => (found.has(id) ? [[id, found.get(id) as ParkedHead]] : [])));
}

/** Throws RELIABLE_NOT_FOUND if `parked` is one id, alone. */
async function outcomesOf(
  { store }: ActingParts,
  ids: string[],
  heads: Map<string, ParkedHead>,
  parked: string | string[]
): Promise<Map<string, IdOutcome>> {
  const gone = new Map((await store.audits.discarded(ids.filter(id => !heads.has(id)))).map(row => [row.id, row]));
  return new Map(
    ids.map((id): [string, IdOutcome] => {
      if (heads.has(id)) return [id, { id, outcome: "possible" }];
      const error = notFound(id, "parked message", gone.get(id));
      if (id === parked) throw error;
      return [id, { id, outcome: "not-found", reason: error.message }];
    })
  );
}
