import { isFinal, STATUSES } from "../message/lifecycle";
import type { ListedMessage } from "../message/message";
import type { Clock } from "../platform/clock";
import type { Store } from "../stores/store";
import type { ListedMessages, ListQuery } from "../stores/store-records";
import { type Cursor, cursorOf, cursorText } from "./cursor";
import { type Filter, hasFilter, queryOf } from "./filter";
import type { MessageRow } from "./views";

export interface ListParams extends Filter {
  /** `nextCursor` of the page before. */
  cursor?: string;
  pageSize?: number;
}

/**
 * A page of messages. `capped`: there are more than `total`. `estimated`: `total` is the database's own number.
 * `nextCursor`: there is a next page.
 */
export interface MessagePage {
  rows: MessageRow[];
  total: number;
  capped?: true;
  estimated?: true;
  pageSize: number;
  nextCursor?: string;
}

type Found = Omit<MessagePage, "rows" | "pageSize"> & { rows: ListedMessage[] };

/** Throws RELIABLE_BAD_OPTION. */
export async function list(
  { store, clock }: { store: Store; clock: Clock },
  filter: Filter,
  limit: number,
  given: string | undefined
): Promise<Found> {
  const cursor: Cursor = given === undefined ? { final: false } : cursorOf(given);
  const of = (query: ListQuery, after: Cursor["after"]) =>
    store.messages.list({ ...query, ...(after && { cursor: after }) }, limit);
  if (!hasFilter(filter)) return inTwoParts(of, cursor, limit);
  const found = await of(queryOf(filter, clock.now()), cursor.after);
  return { rows: found.rows, ...countsOf(found), ...nextOf(false, found) };
}

/** Without a filter, what is not final stands first: in millions of consumed messages nobody would find the others. */
async function inTwoParts(
  of: (query: ListQuery, after: Cursor["after"]) => Promise<ListedMessages>,
  { final, after }: Cursor,
  limit: number
): Promise<Found> {
  const [open, ended] = await Promise.all([
    of({ status: STATUSES.filter(status => !isFinal(status)) }, final ? undefined : after),
    of({ status: STATUSES.filter(isFinal) }, final ? after : undefined)
  ]);
  const first = final ? [] : open.rows;
  const rest = ended.rows.slice(0, limit - first.length);
  const last = rest.at(-1);
  const isMore = ended.next !== undefined || rest.length < ended.rows.length;
  const next: Pick<MessagePage, "nextCursor"> =
    open.next && !final
      ? nextOf(false, open)
      : isMore
        ? { nextCursor: cursorText({ final: true, ...(last && { after: { at: last.at, id: last._id } }) }) }
        : {};
  return {
    rows: [...first, ...rest],
    total: open.total + ended.total,
    ...((open.capped || ended.capped) && { capped: true as const }),
    ...(ended.estimated && { estimated: true as const }),
    ...next
  };
}

function countsOf({ total, capped, estimated }: ListedMessages): Pick<Found, "total" | "capped" | "estimated"> {
  return { total, ...(capped && { capped: true as const }), ...(estimated && { estimated: true as const }) };
}

function nextOf(final: boolean, { next }: ListedMessages): Pick<MessagePage, "nextCursor"> {
  return next ? { nextCursor: cursorText({ final, after: next }) } : {};
}
