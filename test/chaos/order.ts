import { type Handling, type Journal, keyOf } from "./journal";
import { GROUPS } from "./verdict";

interface First extends Handling {
  id: string;
  calledAt: number;
  promisedAt: number;
}

/**
 * What was handled out of order, by key and group: whatever was promised before another emit was called, by whichever
 * process, is handled before it; so is what the same process had called before. And what ran beside another one of its
 * key. Of each message counts when it was handled first: what comes again is the inbox's to answer.
 */
export function outOfOrder({ attempted, promised, handled }: Journal): { broken: string[]; beside: string[] } {
  const lines = new Map<string, First[]>();
  for (const [id, { orderKey, event, at: calledAt }] of attempted)
    for (const group of (orderKey && GROUPS[event]) || []) {
      const firsts = (handled.get(keyOf(group, id)) ?? []).toSorted((a, b) => a.at - b.at);
      if (!firsts[0]) continue;
      const line = `${orderKey} ${group}`;
      const first = { ...firsts[0], id, calledAt, promisedAt: promised.get(id) ?? Infinity };
      lines.set(line, [...(lines.get(line) ?? []), first]);
    }
  const broken: string[] = [];
  const beside: string[] = [];
  for (const [line, all] of lines) {
    broken.push(...brokenIn(all).map(what => `${line}: ${what}`));
    const byBegin = all.toSorted((a, b) => a.since - b.since);
    for (const [i, { id, since }] of byBegin.entries()) {
      const before = byBegin[i - 1];
      if (before && before.at > since) beside.push(`${line}: ${id} beside ${before.id}`);
    }
  }
  return { broken, beside };
}

function brokenIn(all: First[]): string[] {
  const broken: string[] = [];
  const byPromise = all.toSorted((a, b) => a.promisedAt - b.promisedAt);
  const byCall = all.toSorted((a, b) => a.calledAt - b.calledAt);
  const lastOfProcess = new Map<string, First>();
  let latest: First | undefined;
  let next = 0;
  for (const each of byCall) {
    for (; (byPromise[next]?.promisedAt ?? Infinity) < each.calledAt; next++)
      if (!latest || (byPromise[next]?.at ?? 0) > latest.at) latest = byPromise[next];
    const process = each.id.slice(0, each.id.lastIndexOf("-"));
    for (const before of new Set([latest, lastOfProcess.get(process)]))
      if (before && before.at > each.since) broken.push(`${each.id} before ${before.id}`);
    const last = lastOfProcess.get(process);
    if (!last || last.at < each.at) lastOfProcess.set(process, each);
  }
  return broken;
}
