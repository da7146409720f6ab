import { Badge, Id, Long, Time, type Tone } from "../kit/parts";
import { link } from "../kit/route";
import { type Column, Table } from "../kit/table";
import { ActButton } from "./act-button";
import { listTexts as texts } from "./page-texts";
import type { MessageRow } from "./shapes";
import { attemptsText } from "./story";

const TONES: Record<string, Tone> = {
  dead: "act",
  pending: "info",
  published: "info",
  intended: "info",
  scheduled: "info",
  consumed: "ok"
};

export const StatusBadge = ({ status }: { status: string }) => <Badge tone={TONES[status] ?? "plain"}>{status}</Badge>;

/** As much of an error as a row shows. */
const ERROR_SHOWN = 160;

/** Of an event: not broken where there is room. */
export const Name = ({ text }: { text: string }) => (
  <span class="name">
    <Id text={text} />
  </span>
);

interface Given {
  rows: readonly MessageRow[];
  /** All of them are dead: how they are is in the heading. */
  dead?: boolean;
  busy: boolean;
  ticked: ReadonlySet<string>;
  onTicked: (ids: ReadonlySet<string>) => void;
  onRetry: (id: string) => void;
  /** Kept in the address of a message, for the way on. */
  params: Readonly<Record<string, string>>;
}

export function MessageTable({ rows, dead = false, busy, ticked, onTicked, onRetry, params }: Given) {
  const tick = (id: string, isTicked: boolean) => {
    const next = new Set(ticked);
    if (isTicked) next.add(id);
    else next.delete(id);
    onTicked(next);
  };
  const columns: Column<MessageRow>[] = [
    {
      id: "tick",
      head: texts.cols.tick,
      headHidden: true,
      cell: ({ id, status }) =>
        status === "dead" && (
          <input
            type="checkbox"
            aria-label={texts.tick(id)}
            checked={ticked.has(id)}
            onChange={({ currentTarget }) => tick(id, currentTarget.checked)}
          />
        )
    },
    {
      id: "id",
      head: texts.cols.id,
      rowHeader: true,
      cell: ({ id }) => (
        <a href={link("message", { ...params, id })}>
          <Id text={id} />
        </a>
      )
    },
    { id: "event", head: texts.cols.event, cell: ({ event }) => <Name text={event} /> },
    ...(dead
      ? []
      : [{ id: "status", head: texts.cols.status, cell: ({ status }: MessageRow) => <StatusBadge status={status} /> }]),
    { id: "failed", head: texts.cols.failed, cell: ({ failed }) => failed && <Id text={failed} /> },
    ...(dead
      ? []
      : [
          {
            id: "waiting",
            head: texts.cols.waiting,
            cell: ({ waiting }: MessageRow) => waiting && <Id text={waiting} />
          }
        ]),
    { id: "handled", head: texts.cols.handled, wide: true, cell: ({ handled }) => handled && <Id text={handled} /> },
    { id: "attempts", head: texts.cols.attempts, wide: true, cell: row => attemptsText(row) },
    dead
      ? { id: "died", head: texts.cols.died, cell: ({ deadAt }) => <Time at={deadAt ?? null} /> }
      : { id: "emitted", head: texts.cols.emitted, cell: ({ createdAt }) => <Time at={createdAt} /> },
    {
      id: "error",
      head: texts.cols.error,
      cell: ({ errorType, reason }) => (
        <>
          {errorType !== undefined && (
            <>
              <Id text={errorType} />{" "}
            </>
          )}
          {reason !== undefined && <Long text={reason} max={ERROR_SHOWN} />}
        </>
      )
    },
    {
      id: "keys",
      head: texts.cols.keys,
      wide: true,
      cell: ({ keys }) => keys !== undefined && <Id text={keys} />
    },
    {
      id: "acts",
      head: texts.cols.acts,
      headHidden: true,
      cell: ({ id, status }) =>
        status === "dead" && (
          <ActButton act="retry" small label={texts.retry(id)} onClick={() => onRetry(id)}>
            {texts.retryShort}
          </ActButton>
        )
    }
  ];
  return (
    <Table
      caption={texts.title}
      captionHidden
      rows={rows}
      columns={columns}
      keyOf={({ id }) => id}
      busy={busy}
      rowClass={({ id }) => (ticked.has(id) ? "ticked" : undefined)}
    />
  );
}
