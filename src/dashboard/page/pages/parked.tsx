import { ActButton } from "../acts/act-button";
import { Facts } from "../acts/facts";
import { closeDialog, openDialog } from "../acts/list-dialogs";
import { parkedTexts as texts } from "../acts/page-texts";
import { Paging, pageOf } from "../acts/paging";
import { ParkedBody } from "../acts/parked-body";
import { ParkedDialog } from "../acts/parked-dialog";
import { jsonText } from "../acts/payload";
import { usePollOne } from "../acts/poll-one";
import type { ParkedRow, ParkedWhole } from "../kit/api";
import { bytes } from "../kit/format";
import { Copy, Empty, Id, Long, PageHead, Time } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { go, link, useRoute } from "../kit/route";
import { Scroll } from "../kit/scroll";
import { Table } from "../kit/table";

/** What could not be read from the wire. */
export function Parked() {
  const { id, dialog, on } = useRoute().params;
  return (
    <>
      <PageHead title={texts.title} />
      {id === undefined ? <All /> : <One key={id} id={id} />}
      {dialog === "discard" && on !== undefined && (
        <ParkedDialog id={on} onClose={closeDialog} onDone={() => go("parked", {}, { replace: true })} />
      )}
    </>
  );
}

function All() {
  const page = pageOf(useRoute().params["page"]);
  const parked = usePoll("parked", { page }, { keep: true });
  return (
    <>
      <p>{texts.lead}</p>
      <Polled poll={parked}>
        {({ rows, totalPages, capped }) => (
          <>
            <ParkedTable rows={rows} busy={parked.loading} />
            <Paging page={page} totalPages={totalPages} capped={capped} name="page" label={texts.pages} />
          </>
        )}
      </Polled>
    </>
  );
}

function ParkedTable({ rows, busy }: { rows: readonly ParkedRow[]; busy: boolean }) {
  const { cols } = texts;
  return (
    <Table
      caption={texts.title}
      captionHidden
      rows={rows}
      busy={busy}
      keyOf={({ id }) => id}
      empty={<Empty>{texts.none}</Empty>}
      columns={[
        {
          id: "id",
          head: cols.id,
          rowHeader: true,
          cell: ({ id }) => (
            <a href={link("parked", { id })}>
              <Id text={id} />
            </a>
          )
        },
        { id: "at", head: cols.at, cell: ({ at }) => <Time at={at} /> },
        { id: "queue", head: cols.queue, cell: ({ queue }) => <Id text={queue} /> },
        { id: "reason", head: cols.reason, cell: ({ reason }) => <Long text={reason} max={300} /> },
        { id: "bytes", head: cols.bytes, num: true, cell: row => bytes(row.bytes) },
        {
          id: "acts",
          head: cols.acts,
          headHidden: true,
          cell: ({ id }) => (
            <ActButton
              act="discard"
              small
              tone="danger"
              label={texts.discardOne(id)}
              onClick={() => openDialog("discard", { id })}
            >
              {texts.discard}
            </ActButton>
          )
        }
      ]}
    />
  );
}

function One({ id }: { id: string }) {
  const parked = usePollOne("parked", id, { everyMs: ONCE_MS });
  return (
    <>
      <Polled poll={parked}>{found => <Whole parked={found} />}</Polled>
      <p>
        <a href={link("parked")}>{texts.all}</a>
      </p>
    </>
  );
}

/** It may have 4 MiB, and never changes: it is only looked whether it is still there. */
const ONCE_MS = 10 * 60_000;

function Whole({ parked }: { parked: ParkedWhole }) {
  const { id, properties, headers, sha256 } = parked;
  return (
    <div class="card">
      <h2>{texts.one}</h2>
      <div class="row">
        <ActButton act="discard" tone="danger" onClick={() => openDialog("discard", { id })}>
          {texts.discard}
        </ActButton>
        <Copy text={id} label={texts.copyId} />
      </div>
      <Facts
        facts={[
          [texts.cols.id, <Id key="id" text={id} />],
          [texts.cols.at, <Time key="at" at={parked.at} />],
          [texts.cols.queue, <Id key="queue" text={parked.queue} />],
          [texts.cols.reason, <Long key="reason" text={parked.reason} max={500} />],
          [texts.cols.node, <Id key="node" text={parked.nodeID} />],
          [texts.cols.bytes, bytes(parked.bytes)],
          [texts.sha, sha256 !== undefined && <Id key="sha" text={sha256} />]
        ]}
      />
      <ParkedBody parked={parked} />
      {properties && <Json heading={texts.properties} value={properties} />}
      {headers && <Json heading={texts.headers} value={headers} />}
    </div>
  );
}

function Json({ heading, value }: { heading: string; value: Record<string, unknown> }) {
  return (
    <>
      <h3>{heading}</h3>
      <Scroll label={heading} className="payload">
        <pre>
          <Long text={jsonText(value)} max={4000} />
        </pre>
      </Scroll>
    </>
  );
}
