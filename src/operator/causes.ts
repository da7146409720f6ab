import { ReliableError } from "../errors";
import { STATUS } from "../message/lifecycle";
import type { MessageStore } from "../stores/store";
import type { Cause } from "../stores/store-records";
import { type Filter, queryOf } from "./filter";

/** Rows that are told. More kinds of errors than this nobody reads. */
const MOST = 200;

/** Dead messages that are looked at: in no time; and at most. */
export const LOOKED_AT = { default: 1000, max: 10_000 } as const;

/** One way in which messages have died. Instants are ISO strings. */
export interface CauseRow {
  count: number;
  group: string;
  event: string;
  /** What has failed: `handler`, `silence`, `rejected`, … */
  cause: string;
  errorName: string;
  /** Of the error, or its code, or its name. */
  errorType: string;
  /** Without numbers and ids. */
  errorText: string;
  firstAt: string;
  lastAt: string;
  /** Where, the first ones. */
  nodes: string[];
  moreNodes?: number;
  /** The last message that died of it. */
  sampleId: string;
}

export interface CausesParams extends Filter {
  /** So many of the newest dead messages are looked at. @default 1000 */
  limit?: number;
}

export interface CausesAnswer {
  rows: CauseRow[];
  /** So many dead messages are of the filter. */
  messages: number;
  /** Of the newest ones (`newest` of them) alone: older ones were not looked at. */
  capped?: true;
  newest?: number;
  /** So many rows more, of the least frequent. */
  moreRows?: number;
}

/** Dead messages by group, event, cause and type of error. Rejects with RELIABLE_BAD_OPTION. */
export async function causesOf(
  messages: MessageStore,
  { limit = LOOKED_AT.default, ...filter }: CausesParams,
  now: number
): Promise<CausesAnswer> {
  const query = queryOf({ status: STATUS.dead, ...filter }, now);
  const other = [query.status ?? []].flat().find(status => status !== STATUS.dead);
  if (other)
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `Causes are those of dead messages: 'status' can only be dead, not ${other}.`,
      { option: "status" }
    );
  const { causes, read, more } = await messages.causes(query, limit);
  return {
    rows: causes.slice(0, MOST).map(rowOf),
    messages: read,
    ...(more && { capped: true as const, newest: limit }),
    ...(causes.length > MOST && { moreRows: causes.length - MOST })
  };
}

function rowOf({ text, firstAt, lastAt, nodes, moreNodes, sampleId, count, ...cause }: Cause): CauseRow {
  return {
    count,
    ...cause,
    errorText: text,
    firstAt: firstAt.toISOString(),
    lastAt: lastAt.toISOString(),
    nodes,
    ...(moreNodes && { moreNodes }),
    sampleId
  };
}
