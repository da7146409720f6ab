import type { CausesAnswer } from "../causes";
import type { MessagePage } from "../list";
import { flagOf } from "./flags";
import { age, counted, grid } from "./tables";

/** `params`: those of the list, for the command that shows its next page. */
export function listTable(page: Omit<MessagePage, "pageSize">, params: Record<string, unknown> = {}): string {
  const { rows, total, capped, estimated, nextCursor } = page;
  if (!rows.length) return total ? "No more messages." : "No messages.";
  const hasKeys = rows.some(row => row.keys !== undefined);
  const lines = rows.map(row => [
    row.id,
    row.event,
    row.status,
    ...(hasKeys ? [row.keys] : []),
    row.failed,
    row.waiting,
    row.handled,
    `${row.attempts}/${row.maxAttempts}`,
    age(row.ageMs),
    row.reason
  ]);
  const columns = ["failed in", "waiting for", "handled by", "attempts", "age", "reason"];
  return [
    grid(["id", "event", "status", ...(hasKeys ? ["keys"] : []), ...columns], lines),
    `${rows.length} of ${estimated ? "about " : ""}${counted(total, capped)} message(s).`,
    ...(nextCursor === undefined ? [] : [`The next ones: ${commandOf({ ...params, cursor: nextCursor })}`])
  ].join("\n");
}

/** To be copied. */
function commandOf(params: Record<string, unknown>): string {
  const flags = Object.entries(params)
    .filter(([, value]) => value !== undefined)
    .flatMap(([name, value]) => [value].flat().map(each => `${flagOf(flagName(name))} ${word(String(each))}`));
  return ["reliable list", ...flags].join(" ");
}

const flagName = (param: string) => (param === "requestID" ? "requestId" : param);

/** As the REPL reads it. */
function word(text: string): string {
  if (/^[\w.,:=/@+-]+$/.test(text)) return text;
  return text.includes('"') ? `'${text}'` : `"${text}"`;
}

export function causesTable({ rows, messages, capped, newest, moreRows }: CausesAnswer): string {
  const beyond = `among the newest ${counted(newest)} dead ones; older ones were not looked at (--limit 10000 at most).`;
  if (!rows.length) return capped ? `No such message ${beyond}` : "No dead messages.";
  const lines = rows.map(row => [
    row.count,
    row.group,
    row.event,
    row.cause,
    row.errorType,
    row.errorText,
    row.firstAt,
    row.lastAt,
    `${row.nodes.join(", ")}${row.moreNodes ? ` and ${row.moreNodes} more` : ""}`,
    row.sampleId
  ]);
  return [
    grid(["count", "group", "event", "cause", "type", "error", "first", "last", "on nodes", "id"], lines),
    ...(moreRows ? [`${counted(moreRows)} more, less frequent.`] : []),
    capped ? `Of ${counted(messages)} message(s) ${beyond}` : `Of ${counted(messages)} dead message(s).`,
    "The id is that of the last one. All: reliable list --group <group> --event <event> --error-type <type>"
  ].join("\n");
}
