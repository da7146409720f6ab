import { age, count } from "../kit/format";
import type { AuditRow, GroupRow, Story } from "./shapes";

/** What has become of a message, and whom an act is about. Pure. */

/** No group is known for its event yet. */
const ANY_GROUP = "*";

export const groupName = (group: string): string => (group === ANY_GROUP ? "whoever subscribes" : group);

const namesOf = (rows: GroupRow[]): string => rows.map(({ group }) => groupName(group)).join(", ");

const inState = ({ groups }: Pick<Story, "groups">, state: GroupRow["state"]) =>
  groups.filter(row => row.state === state);

/** Which groups a retry sends it to again, and which not, with why. */
export function retryTargets(story: Pick<Story, "groups">, clock: (ageMs: number) => string) {
  const again = inState(story, "failed");
  const why = ({ state, ageMs }: GroupRow) => (state === "waiting" ? "under way" : `${state} ${clock(ageMs)}`);
  const not = story.groups.filter(row => row.state !== "failed");
  return {
    again: namesOf(again),
    not: not.map(row => `${groupName(row.group)} (${why(row)})`).join(", ")
  };
}

export interface Outlook {
  tone: "busy" | "good" | "bad";
  text: string;
}

/** What became of a message after somebody sent it again. */
export function outlookOf(story: Pick<Story, "status" | "groups" | "timeline">): Outlook {
  const [failed] = inState(story, "failed");
  if (story.status === "dead" || failed) {
    const reason = failed?.reason ?? story.timeline.at(-1)?.what ?? "";
    return {
      tone: "bad",

      text: `failed again${failed ? ` in ${groupName(failed.group)}` : ""}: ${reason}`
    };
  }
  const waiting = inState(story, "waiting");
  if (waiting.length) {
    const hint = waiting.find(({ reason }) => reason);
    const next = hint?.reason ? ` (${hint.reason})` : "";
    return { tone: "busy", text: `waiting for ${namesOf(waiting)} …${next}` };
  }
  if (story.status === "resolved") return { tone: "good", text: "resolved: nobody is needed for it any more" };
  return { tone: "good", text: handledText(story) };
}

/** `handled by mail on node mail-2 in 12 ms (attempt 2)`, as the timeline tells of the last one that handled it. */
function handledText({ groups, timeline }: Pick<Story, "groups" | "timeline">): string {
  const last = inState({ groups }, "handled").toSorted((a, b) => a.ageMs - b.ageMs)[0];
  if (!last) return "nobody waits for it any more";
  const told = timeline.findLast(({ what }) => what.startsWith(`handled by ${last.group} `));
  return told?.what.replace(" on node ", " on ") ?? `handled by ${groupName(last.group)}`;
}

const PAST: Record<string, string> = {
  retry: "has retried it",
  resolve: "has resolved it",
  discard: "has discarded it",
  cancel: "has called it off",
  skip: "has skipped it",
  forget: "has forgotten its group"
};

/** `ops2 has retried it 8 s ago`: the last act on this one message that is among these records. */
export function whoWasFaster(id: string, audits: AuditRow[], now: number): string | undefined {
  const found = audits.find(row => row.id === id && PAST[row.act] !== undefined);
  if (!found) return undefined;
  return `${found.by} ${PAST[found.act]} ${age(Math.max(0, now - Date.parse(found.at)))} ago`;
}

/** More than a limit of attempts may have been made: each retry gives new ones. */
export function attemptsText({ attempts, maxAttempts }: Pick<Story, "attempts" | "maxAttempts">): string {
  const of = count(maxAttempts);
  return attempts > maxAttempts ? `${count(attempts)} (at most ${of} after each retry)` : `${count(attempts)} of ${of}`;
}

/** A link to the trace, where the template can be filled. */
export function traceLink(
  template: string | undefined,
  { id, requestID, traceID }: { id: string; requestID?: string | undefined; traceID?: string | undefined }
): string | undefined {
  if (template === undefined) return undefined;
  const values: Record<string, string | undefined> = { id, requestID, traceID };
  let isWhole = true;
  const url = template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) isWhole = false;
    return encodeURIComponent(value ?? "");
  });
  // A template is an operator's own, and still no place for `javascript:`.
  return isWhole && /^https?:\/\//i.test(url) ? url : undefined;
}

/** `order=42, customer=c-7`, as rows have them. A value with a comma in it begins no key of its own. */
export function keysOf(keys: string | undefined): string[] {
  return keys === undefined ? [] : keys.split(/, (?=[^\s=,]+=)/);
}
