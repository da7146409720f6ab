import type { BulkRow, BulkStory } from "../bulk/bulk-views";
import { timeText } from "../bulk/bulk-views";
import type { Page } from "../operations";
import { counted, DONE, grid, pairs } from "./tables";

const BAR = 24;

export function doneWord(act: BulkRow["act"]): string {
  return DONE[act];
}

/** Of a replay there may be many that are not counted before the first that is to be sent. */
const matchedText = (matched: number, capped?: true) => (capped && !matched ? "?" : counted(matched, capped));

/** One line: how far it is. */
export function barText({ act, matched, capped, done, overtaken, refused, state, ...row }: BulkStory): string {
  const worked = done + overtaken + refused;
  const full = Math.round(BAR * Math.min(1, worked / Math.max(1, matched)));
  const { handled, failedAgain, moreOutcomes, leftMs, pace, perSecond } = row;
  // Nobody has counted to the end, and this is further.
  const beyond = capped && worked >= matched;
  return [
    beyond
      ? `${counted(done)} ${DONE[act]}`
      : `[${"#".repeat(full)}${"-".repeat(BAR - full)}] ${counted(done)} of ${counted(matched, capped)} ${DONE[act]}`,
    ...(handled === undefined ? [] : [`${counted(handled, moreOutcomes)} handled`]),
    ...(failedAgain ? [`${counted(failedAgain)} dead again`] : []),
    ...(overtaken ? [`${counted(overtaken)} overtaken`] : []),
    ...(row.skipped ? [`${counted(row.skipped)} left out`] : []),
    ...(row.notReplayable ? [`${counted(row.notReplayable)} not replayable`] : []),
    ...(refused ? [`${counted(refused)} refused`] : []),
    state === "running" ? `${pace ?? perSecond}/s` : state,
    ...(leftMs === undefined ? [] : [`${timeText(leftMs)} left`])
  ].join(" · ");
}

export function bulkTable({ rows, total, capped, page, totalPages }: Omit<Page<BulkRow>, "pageSize">): string {
  if (!rows.length)
    return total ? `No page ${page}: there are ${counted(totalPages, capped)}.` : "There were no bulk acts.";
  return [
    grid(
      ["id", "act", "state", "done", "of", "overtaken", "by", "begun", "filter", "why"],
      rows.map(row => [
        ...[row.bulkID, row.act, row.state, counted(row.done), matchedText(row.matched, row.capped)],
        ...[row.overtaken, row.by, row.startedAt, row.filter, row.why ?? row.note]
      ])
    ),
    `Page ${page} of ${counted(totalPages, capped)}, ${counted(total, capped)} bulk act(s). All of one: reliable bulk <id>`
  ].join("\n");
}

export function bulkText(story: BulkStory): string {
  const { changes, leftMs, capped, moreOutcomes, ...row } = story;
  const shown = {
    ...row,
    matched: matchedText(row.matched, capped),
    ...(row.handled !== undefined && { handled: counted(row.handled, moreOutcomes) }),
    ...(row.failedAgain !== undefined && { failedAgain: counted(row.failedAgain, moreOutcomes) }),
    ...(leftMs !== undefined && { timeLeft: timeText(leftMs) })
  };
  return [pairs(shown), ...changes].join("\n");
}
