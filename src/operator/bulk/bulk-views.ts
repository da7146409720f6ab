import { BULK_STATE, type Bulk, type BulkAct, type FilterAct, isUnderWay } from "../../message/bulk";
import type { BulkTally } from "../../stores/bulk-store";
import { textOf } from "../audit-views";

/** A bulk act, flat. */
export interface BulkRow {
  bulkID: string;
  act: BulkAct;
  /** `status=dead event=order.created` */
  filter: string;
  state: string;
  by: string;
  onBehalfOf?: string;
  note?: string;
  startedAt: string;
  endedAt?: string;
  /** Why it has stopped or failed. */
  why?: string;
  /** How many matched at its start. */
  matched: number;
  /** There were more than `matched`. */
  capped?: true;
  done: number;
  /** Somebody else changed them first. */
  overtaken: number;
  /** The store refuses the change, or the row cannot be read: they stay dead. */
  refused: number;
  waiting?: number;
  /** Of a replay: not for the group, or it has or is to get them anyway. */
  skipped?: number;
  /** Of a replay: without a payload (any more). */
  notReplayable?: number;
  /** Messages per second: wanted, and as measured over the last page. */
  perSecond: number;
  pace?: number;
  /** While it is under way; not there if `capped`. */
  left?: number;
  leftMs?: number;
}

/** All of one. */
export interface BulkStory extends BulkRow {
  /** Of a retry or a replay: which of its messages have ended since, and which are dead again. */
  handled?: number;
  failedAgain?: number;
  /** Of those there are more. */
  moreOutcomes?: true;
  /** The node that works at it. */
  nodeID?: string;
  /** What humans did with it meanwhile: `2026-11-26T03:02:00.000Z pause by emma: note` */
  changes: string[];
}

export function bulkRow(bulk: Bulk): BulkRow {
  const { _id: bulkID, act, filter, state, by, onBehalfOf, note, at, endedAt, why, matched, capped } = bulk;
  const { done, lost: overtaken, refused, waiting, skipped, notReplayable, perSecond, pace } = bulk;
  const left = isUnderWay(bulk) && !capped ? Math.max(0, matched - done - overtaken - refused) : undefined;
  const perMs = (pace ? Math.min(pace, perSecond) : perSecond) / 1000;
  const row: BulkRow = {
    ...{ bulkID, act, filter: textOf(filter), state, by, onBehalfOf, note, startedAt: at.toISOString() },
    ...{
      endedAt: endedAt?.toISOString(),
      why,
      matched,
      capped,
      done,
      overtaken,
      refused,
      waiting,
      skipped,
      notReplayable,
      perSecond,
      pace
    },
    ...{ left, leftMs: left === undefined || state !== BULK_STATE.running ? undefined : Math.round(left / perMs) }
  };
  return defined(row);
}

export function bulkStory(bulk: Bulk, tally: BulkTally | undefined): BulkStory {
  const { claim, changes } = bulk;
  const told = changes.map(
    ({ at, by, change, perSecond, note }) =>
      `${at.toISOString()} ${change}${perSecond === undefined ? "" : ` ${perSecond} per second`} by ${by}${note === undefined ? "" : `: ${note}`}`
  );
  const story: BulkStory = {
    ...bulkRow(bulk),
    ...(tally && { handled: tally.handled, failedAgain: tally.failedAgain }),
    ...(tally?.capped && { moreOutcomes: true }),
    nodeID: claim?.slice(0, claim.lastIndexOf("#")),
    changes: told
  };
  return defined(story);
}

function defined<T extends object>(row: T): T {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined)) as T;
}

const SECONDS: [unit: string, size: number][] = [
  ["h", 3600],
  ["min", 60],
  ["s", 1]
];

/** A time in its largest unit, at least a second. */
export function timeText(ms: number): string {
  const seconds = Math.max(1, Math.ceil(ms / 1000));
  const [unit, size] = SECONDS.find(([, each]) => seconds >= each) as [string, number];
  return `${Math.ceil(seconds / size)} ${unit}`;
}

const VERBS: Record<FilterAct, string> = { retry: "Retries", resolve: "Resolves", discard: "Discards" };

/** What a bulk act does, in words. */
export function meantBy({
  act,
  filter,
  at,
  matched,
  capped,
  waiting,
  perSecond
}: Pick<Bulk, "filter" | "at" | "matched" | "capped" | "waiting" | "perSecond"> & { act: FilterAct }): string {
  const { status: _dead, event, group, producer, olderThanMs, youngerThanMs, ...rest } = filter;
  const of = [
    ...(event === undefined ? [] : [`of event ${event}`]),
    ...(group === undefined ? [] : [`that failed in group ${group}`]),
    ...(producer === undefined ? [] : [`emitted by ${producer}`]),
    ...(olderThanMs === undefined ? [] : [`dead for more than ${timeText(Number(olderThanMs))}`]),
    ...(youngerThanMs === undefined ? [] : [`dead for less than ${timeText(Number(youngerThanMs))}`]),
    ...(Object.keys(rest).length ? [`with ${textOf(rest)}`] : [])
  ];
  const number = `${matched.toLocaleString("en-US")}${capped ? "+" : ""}`;
  const time = matched && !capped ? `, about ${timeText((matched / perSecond) * 1000)}` : "";
  return [
    `${VERBS[act]} ${number} dead message(s)${of.length ? ` ${of.join(", ")}` : ""}, ${perSecond} per second${time}.`,
    `What dies after ${at.toISOString()} is left alone.`,
    ...(waiting ? [`${waiting} more are on their way to other groups and are not discarded.`] : [])
  ].join(" ");
}
