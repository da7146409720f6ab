import type { Answer } from "../kit/api-types";
import { count } from "../kit/format";
import { servers as words } from "../texts/servers";

export type Node = Answer<"overview">["nodes"][number];

export interface NodeState {
  tone: "ok" | "watch" | "act" | "plain";
  text: string;
  /** Why, sentence by sentence. */
  more: string[];
}

/** How a node is, in words. */
export function nodeState({ kind, answers, reason, health }: Node): NodeState {
  if (answers === null)
    return { tone: "plain", text: words.notAsked, more: [reason ?? words.notAskedWhy[kind] ?? words.none] };
  if (!answers) return { tone: "watch", text: words.noAnswer, more: reason === undefined ? [] : [reason] };
  if (!health) return { tone: "ok", text: words.answers, more: [] };
  const { ok, failing, degraded } = health;
  if (!ok) return { tone: "act", text: words.notOk, more: [...failing, ...degraded] };
  return degraded.length
    ? { tone: "watch", text: words.degraded, more: degraded }
    : { tone: "ok", text: words.well, more: [] };
}

/** `held` and its like, as people say it. */
export function sweepingText({ health }: Node): string {
  if (!health) return words.none;
  return words.sweeping[health.sweeping] ?? health.sweeping;
}

/** What it has in its hands. */
export function inFlightText({ health }: Node): string {
  if (!health) return words.none;
  const { inFlightPublishes, inFlightHandlers } = health;
  if (!inFlightPublishes && !inFlightHandlers) return words.nothing;
  return words.inFlight(count(inFlightHandlers), count(inFlightPublishes));
}

export interface Lease {
  holder: string | null;
  partitions: number[];
}

/** Who holds which partitions; what nobody holds comes first. */
export function leasesOf(holders: readonly (string | null)[]): Lease[] {
  const found = new Map<string | null, number[]>();
  holders.forEach((holder, partition) => {
    found.set(holder, [...(found.get(holder) ?? []), partition]);
  });
  return [...found]
    .map(([holder, partitions]) => ({ holder, partitions }))
    .toSorted((a, b) => Number(a.holder !== null) - Number(b.holder !== null));
}
