import { createRequire } from "node:module";
import type { Failure } from "../../src/message/message";
import type { Change, Doc, Filter } from "../../src/stores/documents/collection";
import { NOW } from "./stage";

interface Language {
  match(doc: object, filter: Filter): boolean;
  modify<T>(doc: T, change: Change): T;
}

/**
 * The embedded store's own interpreter: the contract suite shows that it understands our filters as MongoDB does.
 */
const { match, modify } = createRequire(__filename)("@seald-io/nedb/lib/model.js") as Language;

const HOUR = 3_600_000;
const EARLIER = new Date(NOW.getTime() - HOUR);
const LATER = new Date(NOW.getTime() + HOUR);

export { match, modify };

/**
 * Time is two-valued, come or not yet come, and what serves people only is left out: few distinct rows, and every order
 * of events.
 */
export function normal(doc: Doc): Doc {
  const come = (at: unknown) => ((at as Date) > NOW ? LATER : EARLIER);
  const sorted = <T>(map: unknown, change: (value: T) => unknown) =>
    Object.fromEntries(
      Object.entries((map ?? {}) as Record<string, T>)
        .sort()
        .map(([key, value]) => [key, change(value)])
    );
  const failures = ((doc.failures ?? []) as (string | Failure)[])
    .map(failure => (typeof failure === "string" ? failure : failureText(failure)))
    .sort();
  const { dueAt, publishedAt, retriedAt, reason, unreachableSince, notes, next, groups, failed, lastErrors, ...rest } =
    doc;
  const waitsFor = sorted(next, come);
  const result: Doc = {
    ...rest,
    createdAt: NOW,
    at: NOW,
    ...(dueAt !== undefined && { dueAt: come(dueAt) }),
    ...(publishedAt !== undefined && { publishedAt: (publishedAt as Date) < NOW ? EARLIER : NOW }),
    ...(retriedAt !== undefined && { retriedAt: NOW }),
    ...(unreachableSince !== undefined && { unreachableSince: NOW }),
    ...(Array.isArray(doc.waiting) && { waiting: [...doc.waiting].sort() }),
    ...((failed as string[] | undefined)?.length && { failed: [...(failed as string[])].sort() }),
    ...(Object.keys(waitsFor).length && { next: waitsFor }),
    groups: sorted<Record<string, unknown>>(groups, ({ receipt, ...of }) => ({
      ...sorted(of, n => n),
      ...(receipt !== undefined && { receipt: { at: NOW, nodeID: "", durationMs: 0, attempt: 1 } })
    })),
    failures,
    notes: []
  };
  return Object.fromEntries(Object.entries(result).sort(([a], [b]) => (a < b ? -1 : 1))) as Doc;
}

/** Groups of which a receipt is there. */
export function answeredIn(doc: Doc | undefined): string[] {
  return Object.entries((doc?.groups ?? {}) as Record<string, object>).flatMap(([group, of]) =>
    "receipt" in of ? group : []
  );
}

export function changed(doc: Doc, change: Change): Doc {
  const { body } = change.$set ?? {};
  const lists = Object.fromEntries(Object.keys(change.$pull ?? {}).map(list => [list, doc[list] ?? []]));
  return normal(
    modify(
      { ...doc, ...lists },
      Buffer.isBuffer(body) ? { ...change, $set: { ...change.$set, body: body.toString("base64") } } : change
    )
  );
}

export function stored(doc: Doc): Doc {
  return normal({ ...doc, ...(Buffer.isBuffer(doc.body) && { body: doc.body.toString("base64") }) });
}

export function read(doc: Doc): Doc {
  const failures = (doc.failures as string[]).flatMap(failureOf);
  return { ...doc, body: Buffer.from(doc.body as string, "base64"), failures };
}

/** Of its cause no more than what product code looks at. */
function failureText({ group, attempt, cause, excused }: Failure): string {
  return `${group} ${attempt}${excused ? " excused" : cause === "silence" ? " silence" : ""}`;
}

function failureOf(text: string): Failure[] {
  const [group = "", attempt, what] = text.split(" ");
  if (what === undefined) return [];
  const known = { at: NOW, group, attempt: Number(attempt), error: { name: "Error", message: "" } };
  return [what === "silence" ? { ...known, cause: "silence" } : { ...known, cause: "handler", excused: true }];
}

/** Those that count, by attempt. */
export function countedIn(failures: string[]): string[] {
  return failures.filter(text => !text.endsWith(" excused")).map(text => text.replace(" silence", ""));
}

/** Rows after time has passed for this field of it, or for all. */
export function later(doc: Doc): [what: string, doc: Doc][] {
  const next = (doc.next ?? {}) as Record<string, Date>;
  const open = Object.keys(next).filter(group => (next[group] as Date) > NOW);
  const all = normal({
    ...doc,
    dueAt: EARLIER,
    publishedAt: doc.publishedAt && EARLIER,
    next: Object.fromEntries(Object.keys(next).map(group => [group, EARLIER]))
  });
  const rows: [string, Doc][] = [["everything is due", all]];
  if (open.length > 1)
    for (const group of open)
      rows.push([`${group} is due`, normal({ ...doc, dueAt: EARLIER, next: { ...next, [group]: EARLIER } })]);
  return rows;
}
