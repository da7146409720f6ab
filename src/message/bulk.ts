/**
 * States of a bulk act. Pure; the store's filters repeat them, in `stores/documents/bulks.ts`.
 *
 *   running ⇄ paused
 *      │  └─────────┴──▶ stopping ──▶ stopped   (a human)
 *      ├──────────────────────────────▶ stopped   (by itself: too many are dead again)
 *      ├──▶ done
 *      └──▶ failed
 */
export const BULK_STATE = {
  /** Entered by its start and by `resume`. A node claims it and acts page by page. */
  running: "running",
  /** By a human, until a human resumes or stops it. A page under way is finished. */
  paused: "paused",
  /** By a human. The node that has it, or the next one that looks, finishes its page and ends it. */
  stopping: "stopping",
  /** Final: by a human, or by itself; `why` tells. What is left stays dead. */
  stopped: "stopped",
  /** Final: nothing is left that matches. */
  done: "done",
  /** Final: the store refuses too many of the messages; `why` tells. */
  failed: "failed"
} as const;

export type BulkState = (typeof BULK_STATE)[keyof typeof BULK_STATE];

export const BULK_ACTS = ["retry", "resolve", "discard"] as const;

/** On dead messages that match a filter. */
export type FilterAct = (typeof BULK_ACTS)[number];

export type BulkAct = FilterAct | "replay";

/** What a human did with a bulk act that was under way. */
export interface BulkChange {
  at: Date;
  by: string;
  change: "pause" | "resume" | "stop" | "rate";
  note?: string;
  perSecond?: number;
}

/** Where its next page begins: at the deaths of this instant, but for those that were left; of a replay behind `id`. */
export interface BulkCursor {
  at: Date;
  left: string[];
  id?: string;
}

export interface BulkPage {
  ids: string[];
  at: Date;
  /** Of a replay: the last message that was looked at, and what of them is not among `ids`. */
  id?: string;
  skipped?: number;
  notReplayable?: number;
  /** There was nothing behind it. */
  last?: true;
}

/** How it ends. */
export interface BulkEnd {
  state: Extract<BulkState, "done" | "stopped" | "failed">;
  endedAt: Date;
  why?: string;
}

/** What it has done so far. Written by the holder of its claim alone. */
export interface BulkProgress {
  pages: number;
  done: number;
  /** Overtaken: somebody else changed them first. */
  lost: number;
  /** The store refuses the change, or the row cannot be read. They stay dead. */
  refused: number;
  /** Of a replay: those that are not for the group, or that it has or is to get anyway. */
  skipped?: number;
  /** Of a replay: those that have no payload (any more). */
  notReplayable?: number;
  cursor?: BulkCursor;
  /** Messages per second, measured over the last page. */
  pace?: number;
  /** It has come to this end; its audit record and its state are still to say so. */
  ending?: BulkEnd;
}

/** What came of a page. */
export interface PageOutcome extends Pick<BulkProgress, "skipped" | "notReplayable"> {
  done: number;
  lost: number;
  refused: number;
  /** Where the next one begins. */
  cursor: BulkCursor;
}

/** One act on all that matches a filter, or a replay, in pages, at a rate; it survives every process. */
export interface Bulk extends BulkProgress {
  /** That of its audit record, too. */
  _id: string;
  act: BulkAct;
  /** As it was given. */
  filter: Record<string, string | number | string[]>;
  /** Act and filter: of one key only one is under way. */
  key: string;
  note?: string;
  by: string;
  onBehalfOf?: string;
  state: BulkState;
  /** Its start, by the store's clock. What dies later, also again, is not acted on. */
  at: Date;
  /** When it was counted, if a human has confirmed that number: it stands in the place of the start, and is not after it. */
  countedAt?: Date;
  perSecond: number;
  /** How many matched at its start. `capped`: there were more, nobody has counted to the end. */
  matched: number;
  capped?: true;
  /** With `discard`: matched, and not acted on, since other groups are waited for. */
  waiting?: number;
  /** The page under way: whoever takes over finds out what was done of it. `at`: of its last death. */
  page?: BulkPage;
  /** Who has it, until when. */
  claim?: string;
  until?: Date;
  why?: string;
  endedAt?: Date;
  /** The last BULK_CHANGES_KEPT. */
  changes: BulkChange[];
}

export const BULK_CHANGES_KEPT = 50;

/** A page: large enough that its commands cost little, small enough that a stop or a pause is soon felt. */
export const BULK_PAGE = 500;

export const BULK_RATES = { default: 100, max: 10_000 } as const;

/** One second's worth, so that a slow bulk act does not go by fits and starts. */
export function bulkPageSize(perSecond: number): number {
  return Math.max(1, Math.min(BULK_PAGE, Math.floor(perSecond)));
}

/** How many of a retry's outcomes are looked at, and how many of them may be dead again. */
export const OUTCOMES_SEEN = 50;
const DEAD_AGAIN_MOST = OUTCOMES_SEEN * 0.2;

/**
 * Why a retry stops itself. `dead`: of its last OUTCOMES_SEEN outcomes, fewer at its beginning; whatever comes of the
 * others, those are too many.
 */
export function stopsItself(dead: number, seen: number): string | undefined {
  if (dead <= DEAD_AGAIN_MOST) return undefined;
  return `of the last ${seen} message(s) with an outcome ${dead} are dead again`;
}

/** Its messages go out, and something comes of them. */
export function hasOutcomes({ act }: Pick<Bulk, "act">): boolean {
  return act === "retry" || act === "replay";
}

export function isUnderWay({ state }: Pick<Bulk, "state">): boolean {
  return state === BULK_STATE.running || state === BULK_STATE.paused || state === BULK_STATE.stopping;
}
