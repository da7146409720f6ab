import type { Answer } from "../kit/api-types";
import { count, hourMinute } from "../kit/format";
import { groups as words } from "../texts/groups";

type Overview = Answer<"overview">;
export type Group = Overview["groups"][number];
export type Queue = Group["queues"][number];
export type Going = Pick<Overview, "paused" | "breakers">;

export interface State {
  tone: "ok" | "watch" | "act" | "plain";
  text: string;
}

/** Whether a group, as somebody has named it, is this one: `audit` and `audit:order.*` are. */
export function namesGroup(named: string, group: string): boolean {
  return group === named || group.startsWith(`${named}:`);
}

/** The pauses of a group, or of one of its patterns. */
export function pausesOf({ paused }: Going, group: string, pattern?: string) {
  return paused.filter(
    pause => namesGroup(pause.group, group) && (pattern === undefined || (pause.pattern ?? pattern) === pattern)
  );
}

/** All of its queues: a pause of one pattern leaves the others going. */
export function isAllPaused(going: Going, { group, queues }: Group): boolean {
  return (
    pausesOf(going, group).some(({ pattern }) => pattern === undefined) ||
    (queues.length > 0 && queues.every(({ pattern }) => pausesOf(going, group, pattern).length > 0))
  );
}

/** How a group is, in words, what somebody has to act on first. */
export function statesOf(row: Group, going: Going): State[] {
  const { group, queues, dead, deadCapped } = row;
  const halted = queues.filter(({ pattern, lives }) => !lives && !pausesOf(going, group, pattern).length);
  const idle = halted.filter(({ consumers }) => consumers === 0);
  const waits = idle.reduce((sum, { ready }) => sum + (ready ?? 0), 0);
  const gone = halted.filter(({ known, ready }) => known && ready === null);
  const breakers = going.breakers.filter(breaker => namesGroup(breaker.group, group));
  const starting = queues.some(({ lives, pattern }) => lives && !pausesOf(going, group, pattern).length);
  const states: State[] = [
    ...(dead ? [{ tone: "act" as const, text: words.dead(count(dead, deadCapped)) }] : []),
    ...(waits ? [{ tone: "act" as const, text: words.noConsumer }] : []),
    ...(gone.length ? [{ tone: "act" as const, text: words.noQueue(gone.map(({ pattern }) => pattern)) }] : []),
    ...breakers.map(({ nodeID, sinceAt }) => ({
      tone: "watch" as const,
      text: words.breaker(nodeID, hourMinute(sinceAt))
    })),
    ...(starting && !breakers.length ? [{ tone: "watch" as const, text: words.starting }] : []),
    ...pausesOf(going, group).map(({ pattern, sinceAt, by }) => ({
      tone: "watch" as const,
      text: words.paused(hourMinute(sinceAt), by, pattern)
    })),
    ...(!waits && idle.length ? [{ tone: "plain" as const, text: words.idle }] : []),
    ...(queues.some(({ known }) => !known) ? [{ tone: "plain" as const, text: words.unknown }] : [])
  ];
  if (states.length) return states;
  return queues.length ? [{ tone: "ok", text: words.well }] : [{ tone: "plain", text: words.noSubscription }];
}

/** Somebody has to look at it, or should. */
export function needsSomething(states: readonly State[]): boolean {
  return states.some(({ tone }) => tone === "act" || tone === "watch");
}

/** Why it cannot be forgotten now. */
export function whyNotForget({ consumers, queues }: Group): string | undefined {
  if (consumers) return words.hasConsumers(consumers);
  return queues.some(({ lives }) => lives) ? words.hasProcess : undefined;
}
