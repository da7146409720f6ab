import { bytes, count } from "../kit/format";
import { Badge, Empty, Id, Long, Time, type Tone } from "../kit/parts";
import { link } from "../kit/route";
import { Table } from "../kit/table";
import { Facts } from "./facts";
import { actsTexts as texts } from "./page-texts";
import type { AuditRow, AuditStory } from "./shapes";

const TONES: Record<string, Tone> = { begun: "info", done: "ok", stopped: "watch", failed: "act" };

/** As much of a text as a row shows. */
const SHOWN = 160;

/** What an act was about, in short. */
export function aboutText({ id, parked, group, pattern, filter, event, queue, matched, act }: AuditRow): string {
  if (act === "sweep") return "";
  const of = event ?? queue;
  if (id !== undefined) return `${id}${of === undefined ? "" : ` (${of})`}`;
  if (filter !== undefined) return filter;
  if (group !== undefined) return `${texts.group} ${group}${pattern === undefined ? "" : ` (${pattern})`}`;
  return texts.several(typeof matched === "number" ? matched : 0, parked === true);
}

/** What came of it, in numbers. */
export function outcomeText({ state, done, matched, claimed, lost }: AuditRow): string {
  if (state === "begun") return texts.notFinished;
  const number = (value: unknown) => (typeof value === "number" ? count(value) : "0");
  if (done === undefined) return claimed === undefined ? "" : texts.claimed(number(claimed));
  const rest = typeof lost === "number" && lost > 0 ? `, ${texts.lost(count(lost))}` : "";
  return `${texts.doneOf(number(done), number(matched))}${rest}`;
}

function State({ row }: { row: AuditRow }) {
  return (
    <>
      <Badge tone={TONES[row.state] ?? "plain"}>{row.state}</Badge> {outcomeText(row)}
    </>
  );
}

function By({ row: { by, onBehalfOf } }: { row: AuditRow }) {
  return (
    <>
      <Id text={by} />
      {onBehalfOf !== undefined && (
        <>
          {" "}
          {texts.for} <Id text={onBehalfOf} />
        </>
      )}
    </>
  );
}

export function AuditTable({ rows, busy }: { rows: readonly AuditRow[]; busy: boolean }) {
  const { cols } = texts;
  return (
    <Table
      caption={texts.audit}
      captionHidden
      rows={rows}
      busy={busy}
      keyOf={({ auditID }) => auditID}
      empty={<Empty>{texts.noAudits}</Empty>}
      columns={[
        {
          id: "at",
          head: cols.at,
          cell: ({ at, auditID }) => (
            <a href={link("acts", { id: auditID })}>
              <Time at={at} />
            </a>
          )
        },
        { id: "act", head: cols.act, rowHeader: true, cell: ({ act }) => act },
        { id: "by", head: cols.by, cell: row => <By row={row} /> },
        { id: "on", head: cols.on, cell: row => <Long text={aboutText(row)} max={SHOWN} /> },
        { id: "done", head: cols.done, cell: row => <State row={row} /> },
        { id: "note", head: cols.note, cell: ({ note }) => note !== undefined && <Long text={note} max={SHOWN} /> }
      ]}
    />
  );
}

/** Fields with a place of their own; the others are counts. */
const KNOWN = [
  ..."matched done lost claimed".split(" "),
  ..."auditID at act by onBehalfOf state note filter id parked group pattern event queue reason".split(" "),
  ..."endedAt error earlier ids discarded".split(" ")
];

/** All of one act. */
export function OneAudit({ audit }: { audit: AuditStory }) {
  const { cols } = texts;
  const long = (text: string | undefined) => text !== undefined && <Long text={text} />;
  const counts = Object.entries(audit).filter(([name, value]) => !KNOWN.includes(name) && typeof value === "number");
  const isOfMessages = audit.parked !== true && audit.act !== "discard";
  return (
    <div class="card">
      <h2>{texts.one}</h2>
      <Facts
        facts={[
          [cols.act, audit.act],
          [cols.by, <By key="by" row={audit} />],
          [cols.at, <Time key="at" at={audit.at} />],
          [texts.ended, audit.endedAt !== undefined && <Time key="end" at={audit.endedAt} />],
          [cols.note, long(audit.note)],
          [cols.on, long(aboutText(audit))],
          [cols.done, <State key="state" row={audit} />],
          [texts.reason, long(audit.reason)],
          [texts.error, long(audit.error)],
          [texts.earlier, long(audit.earlier)],
          ...counts.map(([name, value]) => [texts.counts[name] ?? name, count(value as number)] as const)
        ]}
      />
      {audit.discarded.length > 0 ? (
        <>
          <h3>{texts.discarded}</h3>
          <Table
            caption={texts.discarded}
            captionHidden
            rows={audit.discarded}
            keyOf={({ id }) => id}
            columns={[
              { id: "id", head: texts.ids, rowHeader: true, cell: ({ id }) => <Id text={id} /> },
              { id: "of", head: texts.of, cell: ({ event, queue }) => <Id text={event ?? queue ?? ""} /> },
              { id: "at", head: cols.at, cell: ({ createdAt }) => <Time at={createdAt} /> },
              { id: "bytes", head: texts.bytes, num: true, cell: row => bytes(row.bytes) },
              { id: "why", head: texts.reason, cell: ({ reason }) => long(reason) }
            ]}
          />
        </>
      ) : (
        audit.ids.length > 0 && (
          <>
            <h3>{texts.ids}</h3>
            <ul class="act-list">
              {audit.ids.map(id => (
                <li key={id}>
                  {isOfMessages ? (
                    <a href={link("message", { id })}>
                      <Id text={id} />
                    </a>
                  ) : (
                    <Id text={id} />
                  )}
                </li>
              ))}
            </ul>
          </>
        )
      )}
    </div>
  );
}
