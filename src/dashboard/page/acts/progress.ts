import { age, count } from "../kit/format";
import type { BulkRow, BulkStory } from "./shapes";

/** How far a bulk act is, in words. Pure. */

const DONE: Record<BulkRow["act"], string> = {
  retry: "sent again",
  resolve: "resolved",
  discard: "deleted",
  replay: "sent"
};

export function isUnderWay({ state }: Pick<BulkRow, "state">): boolean {
  return state === "running" || state === "paused" || state === "stopping";
}

/** Those that have no outcome yet. Not known where the outcomes were not counted to the end. */
export function underWay({
  done,
  handled,
  failedAgain = 0,
  moreOutcomes
}: Partial<BulkStory> & { done: number }): number | undefined {
  return handled === undefined || moreOutcomes ? undefined : Math.max(0, done - handled - failedAgain);
}

/** `3,120 of 4,312 sent again · 3,050 handled · 3 dead again · 58 under way · 10/s · 2 min left` */
export function progressText(story: BulkRow & Partial<BulkStory>): string {
  const { act, matched, capped, done, overtaken, refused, state, handled, failedAgain, moreOutcomes } = story;
  const beyond = capped && done + overtaken + refused >= matched;
  const part = (n: number | undefined, what: string, more?: true) => (n ? [`${count(n, more)} ${what}`] : []);
  return [
    `${count(done)}${beyond ? "" : ` of ${count(matched, capped)}`} ${DONE[act]}`,
    ...(handled === undefined ? [] : [`${count(handled, moreOutcomes)} handled`]),
    ...part(failedAgain, "dead again", moreOutcomes),
    ...part(underWay(story), "under way"),
    ...part(overtaken, "overtaken"),
    ...part(refused, "refused"),
    ...part(story.waiting, "wait for other groups"),
    ...part(story.skipped, "left out"),
    ...part(story.notReplayable, "without a payload"),
    ...(state === "running" ? [`${count(Math.round(story.pace ?? story.perSecond))}/s`] : [state]),
    ...(story.leftMs === undefined ? [] : [`${age(Math.max(1000, story.leftMs))} left`])
  ].join(" · ");
}

/** From 0 to `matched`: what has been looked at. */
export function worked({ done, overtaken, refused, matched }: BulkRow): number {
  return Math.min(matched, done + overtaken + refused);
}

export const slower = (perSecond: number): number => Math.max(1, Math.floor(perSecond / 2));
export const faster = (perSecond: number): number => Math.min(10_000, Math.max(perSecond + 1, perSecond * 2));

/** About how long so many take. */
export function howLong(matched: number, perSecond: number): string {
  return age(Math.max(1000, (matched / perSecond) * 1000));
}

/** For the handover: what was done, by whom, and what came of it. */
export function summaryOf(story: BulkStory, address: string): string {
  const { act, filter, by, onBehalfOf, startedAt, endedAt, note, why, changes } = story;
  return [
    `${act} by ${by}${onBehalfOf === undefined ? "" : ` (for ${onBehalfOf})`}: ${progressText(story)}`,
    `what: ${filter}`,
    `from ${startedAt}${endedAt === undefined ? ", still under way" : ` to ${endedAt}`}`,
    ...(note === undefined ? [] : [`why: ${note}`]),
    ...(why === undefined ? [] : [`ended: ${why}`]),
    ...changes,
    address
  ].join("\n");
}
