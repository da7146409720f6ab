import { pausedName, pauses, pauseText } from "../message/paused";
import { queueTargetOf } from "../message/queue-target";
import type { Pause, Subscription } from "../message/records";

/** A group, or one of its patterns, that is paused now. Flat, with instants as ISO strings. */
export interface PausedRow {
  group: string;
  pattern?: string;
  since: string;
  pausedMs: number;
  by: string;
  note: string;
  /** The queues that it keeps from being consumed, as far as they are known. */
  queues: string;
  /** All of it in a line. */
  text: string;
}

/** What is paused now, the longest first. `known`: `Subscriptions`, which is read every few seconds. */
export function pausedRows(
  { paused, all }: { readonly paused: readonly Pause[]; readonly all: readonly Subscription[] },
  now: number
): PausedRow[] {
  return [...paused]
    .sort((a, b) => a.at.getTime() - b.at.getTime())
    .map(pause => {
      const { group, pattern, at, by, note } = pause;
      const target = queueTargetOf(group)?.queue;
      const queues = target === undefined ? all.filter(sub => pauses(pause, sub)).map(({ queue }) => queue) : [target];
      return {
        group,
        ...(pattern !== undefined && { pattern }),
        since: at.toISOString(),
        pausedMs: Math.max(0, now - at.getTime()),
        ...{ by, note },
        queues: queues.join(", "),
        text: pauseText(pause)
      };
    });
}

/** Of one handler. */
export function pausedTextOf(
  paused: readonly Pause[],
  sub: Pick<Subscription, "group" | "pattern">
): string | undefined {
  const texts = paused.filter(pause => pauses(pause, sub)).map(pauseText);
  return texts.length ? texts.join("; ") : undefined;
}

/** For counts and hints. */
export function pausedNames(paused: readonly Pause[]): string[] {
  return paused.map(pausedName).sort();
}
