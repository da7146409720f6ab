import { Empty, Id, Long, Num, Time } from "../kit/parts";
import { link } from "../kit/route";
import { type Column, Table } from "../kit/table";
import { CAUSE_PARAMS } from "./filter";
import { Name } from "./message-table";
import { deadTexts as texts } from "./page-texts";
import type { CauseRow } from "./shapes";

type Params = Readonly<Record<string, string>>;

/** As much as a filter takes. */
const LONGEST = 300;

/** The address of what has died of it. */
export const causeLink = (row: CauseRow, params: Params): string =>
  link("dead", { ...params, ...causeParams(row), cursor: undefined });

export function causeParams(row: Pick<CauseRow, (typeof CAUSE_PARAMS)[number]>): Record<string, string> {
  return Object.fromEntries(
    CAUSE_PARAMS.flatMap(name => (row[name] && row[name].length <= LONGEST ? [[name, row[name]]] : []))
  );
}

export function CauseError({ row: { cause, errorName, errorType, errorText } }: { row: CauseRow }) {
  const name =
    errorName && errorType && errorType !== errorName ? `${errorName} (${errorType})` : errorName || errorType;
  return (
    <>
      <bdi>{[cause, name].filter(Boolean).join(": ")}</bdi>
      {errorText && (
        <>
          : <Long text={errorText} max={300} />
        </>
      )}
    </>
  );
}

function Nodes({ row: { nodes, moreNodes } }: { row: CauseRow }) {
  if (!nodes.length) return null;
  return (
    <bdi>
      {nodes.join(", ")}
      {moreNodes ? ` ${texts.moreNodes(moreNodes)}` : nodes.length === 1 ? ` ${texts.only}` : ""}
    </bdi>
  );
}

interface CausesGiven {
  rows: readonly CauseRow[];
  busy: boolean;
  params: Params;
}

/** What messages have died of, the most frequent first; the number leads to the messages. */
export function CausesTable({ rows, busy, params }: CausesGiven) {
  const columns: Column<CauseRow>[] = [
    {
      id: "count",
      head: texts.cols.count,
      num: true,
      cell: row => (
        <a href={causeLink(row, params)} aria-label={texts.showMessages(row.count, row.group, row.errorName)}>
          <Num value={row.count} />
        </a>
      )
    },
    { id: "group", head: texts.cols.group, rowHeader: true, cell: ({ group }) => <Id text={group} /> },
    { id: "event", head: texts.cols.event, cell: ({ event }) => <Name text={event} /> },
    { id: "error", head: texts.cols.error, cell: row => <CauseError row={row} /> },
    {
      id: "time",
      head: texts.cols.time,
      cell: ({ firstAt, lastAt }) => (
        <>
          <Time at={firstAt} /> – <Time at={lastAt} />
        </>
      )
    },
    { id: "nodes", head: texts.cols.nodes, cell: row => <Nodes row={row} /> }
  ];
  return (
    <Table
      caption={texts.causes}
      captionHidden
      rows={rows}
      columns={columns}
      keyOf={({ group, event, cause, errorType, errorText }) =>
        JSON.stringify([group, event, cause, errorType, errorText])
      }
      empty={<Empty>{Object.keys(params).length ? texts.noneFiltered : texts.none}</Empty>}
      busy={busy}
    />
  );
}

/** The cause that was chosen. Without `row` none of its messages are dead any more. */
export function ChosenCause({ row, params }: { row: CauseRow | undefined; params: Params }) {
  const { group, event, cause, errorType, errorText } = params;
  return (
    <div class="cause">
      <p class="cause-where">
        {[row?.group ?? group, row?.event ?? event].filter(Boolean).map((name, i) => (
          <span key={name}>
            {i > 0 && " · "}
            <Id text={name as string} />
          </span>
        ))}
      </p>
      <p class="cause-error">
        {row ? <CauseError row={row} /> : <bdi>{[cause, errorType, errorText].filter(Boolean).join(": ")}</bdi>}
      </p>
      {row && (
        <p class="muted">
          <Time at={row.firstAt} /> – <Time at={row.lastAt} />
          {row.nodes.length > 0 && (
            <>
              {" · "}
              <Nodes row={row} />
            </>
          )}
        </p>
      )}
    </div>
  );
}
