import { AuditTable, OneAudit } from "../acts/audit-parts";
import { BulkProgress } from "../acts/bulk-progress";
import { actsTexts as texts } from "../acts/page-texts";
import { Paging, pageOf } from "../acts/paging";
import { usePollOne } from "../acts/poll-one";
import { isUnderWay, progressText } from "../acts/progress";
import type { BulkRow } from "../acts/shapes";
import { actTexts } from "../acts/texts";
import { Badge, Empty, Id, Long, PageHead, Time } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { link, useRoute } from "../kit/route";
import { Table } from "../kit/table";

const BULKS_SHOWN = 10;

/** What humans do now, and what they have done. */
export function Acts() {
  const { id, bulk } = useRoute().params;
  return (
    <>
      <PageHead title={texts.title} />
      {id !== undefined ? (
        <One key={id} id={id} />
      ) : bulk !== undefined ? (
        <>
          <BulkProgress key={bulk} id={bulk} />
          <Back />
        </>
      ) : (
        <All />
      )}
    </>
  );
}

function Back() {
  return (
    <p>
      <a href={link("acts")}>{texts.all}</a>
    </p>
  );
}

function One({ id }: { id: string }) {
  const audit = usePollOne("audits", id);
  return (
    <>
      <Polled poll={audit}>{found => <OneAudit audit={found} />}</Polled>
      <Back />
    </>
  );
}

function All() {
  const { params } = useRoute();
  const page = pageOf(params["page"]);
  const bulkPage = pageOf(params["bulks"]);
  const bulks = usePoll("bulks", { page: bulkPage, pageSize: BULKS_SHOWN }, { keep: true });
  const audits = usePoll("audits", { page }, { keep: true });
  return (
    <>
      <section class="card" aria-labelledby="running">
        <h2 id="running">{texts.running}</h2>
        <Polled poll={bulks}>{({ rows }) => <Running rows={rows} />}</Polled>
      </section>
      <section class="card" aria-labelledby="bulks">
        <h2 id="bulks">{texts.bulks}</h2>
        <Polled poll={bulks}>
          {({ rows, totalPages, capped }) => (
            <>
              <BulkTable rows={rows} busy={bulks.loading} />
              <Paging page={bulkPage} totalPages={totalPages} capped={capped} name="bulks" label={texts.bulkPages} />
            </>
          )}
        </Polled>
      </section>
      <section class="card" aria-labelledby="audit">
        <h2 id="audit">{texts.audit}</h2>
        <Polled poll={audits}>
          {({ rows, totalPages, capped }) => (
            <>
              <AuditTable rows={rows} busy={audits.loading} />
              <Paging page={page} totalPages={totalPages} capped={capped} name="page" label={texts.auditPages} />
            </>
          )}
        </Polled>
      </section>
    </>
  );
}

function Running({ rows }: { rows: readonly BulkRow[] }) {
  const running = rows.filter(isUnderWay);
  if (!running.length) return <Empty>{texts.noneRunning}</Empty>;
  return (
    <>
      {running.map(({ bulkID }) => (
        <BulkProgress key={bulkID} id={bulkID} level="h3" />
      ))}
    </>
  );
}

function BulkTable({ rows, busy }: { rows: readonly BulkRow[]; busy: boolean }) {
  const { cols } = texts;
  const { heading, states } = actTexts.bulk;
  return (
    <Table
      caption={texts.bulks}
      captionHidden
      rows={rows}
      busy={busy}
      keyOf={({ bulkID }) => bulkID}
      empty={<Empty>{texts.noBulks}</Empty>}
      columns={[
        {
          id: "act",
          head: cols.act,
          rowHeader: true,
          cell: ({ bulkID, act, startedAt }) => (
            <a href={link("acts", { bulk: bulkID })}>
              {heading[act] ?? act} <Time at={startedAt} />
            </a>
          )
        },
        { id: "state", head: cols.state, cell: ({ state }) => <Badge>{states[state] ?? state}</Badge> },
        { id: "progress", head: cols.progress, cell: row => progressText(row) },
        { id: "by", head: cols.by, cell: ({ by }) => <Id text={by} /> },
        { id: "on", head: cols.on, cell: ({ filter }) => <Long text={filter} max={160} /> },
        { id: "note", head: cols.note, cell: ({ note }) => note !== undefined && <Long text={note} max={160} /> }
      ]}
    />
  );
}
