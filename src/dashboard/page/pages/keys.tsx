import { ActButton } from "../acts/act-button";
import { OneDialog } from "../acts/one-dialog";
import { SkipDialog } from "../acts/skip-dialog";
import type { Answer } from "../kit/api-types";
import { Empty, Id, Long, Num, PageHead, Time } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { link, setParams, useRoute } from "../kit/route";
import { Table } from "../kit/table";
import { keys as texts } from "../texts/keys";

type Row = Answer<"keys">["rows"][number];

/** As much of an error as a row shows. */
const REASON_SHOWN = 160;

const close = () => setParams({ dialog: undefined, on: undefined, of: undefined, in: undefined }, { replace: true });

/** Order keys that are held, and what to do about each. */
export function Keys() {
  const { key } = useRoute().params;
  const poll = usePoll("keys", key === undefined ? {} : { key }, { keep: true });
  return (
    <>
      <PageHead title={texts.title} />
      <p class="muted">{texts.lead}</p>
      {key !== undefined && (
        <p>
          <a href={link("keys")}>{texts.all}</a>
        </p>
      )}
      <Polled poll={poll}>
        {({ rows, more }) => (
          <section class="card" aria-label={texts.title}>
            <KeyTable rows={rows} busy={poll.loading} asked={key} />
            {more && <p class="muted note">{texts.more}</p>}
          </section>
        )}
      </Polled>
      <OpenDialog />
    </>
  );
}

function KeyTable({ rows, busy, asked }: { rows: readonly Row[]; busy: boolean; asked: string | undefined }) {
  const { cols } = texts;
  return (
    <Table
      caption={texts.title}
      captionHidden
      rows={rows}
      busy={busy}
      keyOf={({ key, group, id }) => `${group} ${id} ${key}`}
      empty={
        <Empty>
          <bdi>{asked === undefined ? texts.none : texts.notHeld(asked)}</bdi>
        </Empty>
      }
      columns={[
        { id: "key", head: cols.key, rowHeader: true, cell: ({ key }) => <Id text={key} /> },
        {
          id: "group",
          head: cols.group,
          cell: ({ group }) => (
            <a href={link("groups", { group })}>
              <Id text={group} />
            </a>
          )
        },
        {
          id: "id",
          head: cols.id,
          cell: ({ id }) => (
            <a href={link("message", { id })}>
              <Id text={id} />
            </a>
          )
        },
        { id: "event", head: cols.event, wide: true, cell: ({ event }) => <Id text={event} /> },
        { id: "since", head: cols.since, cell: ({ since }) => <Time at={since} /> },
        {
          id: "behind",
          head: cols.behind,
          num: true,
          cell: ({ behind, capped = false }) => <Num value={behind} capped={capped} />
        },
        {
          id: "reason",
          head: cols.reason,
          cell: ({ reason }) => reason !== undefined && <Long text={reason} max={REASON_SHOWN} />
        },
        { id: "acts", head: cols.acts, headHidden: true, cell: row => <Acts row={row} /> }
      ]}
    />
  );
}

function Acts({ row: { key, group, id } }: { row: Row }) {
  return (
    <span class="row">
      <ActButton act="retry" small label={texts.retry(id)} onClick={() => setParams({ dialog: "retry", on: id })}>
        {texts.retryShort}
      </ActButton>
      <ActButton
        act="resolve"
        small
        label={texts.skip(key, group)}
        onClick={() => setParams({ dialog: "skip", of: key, in: group })}
      >
        {texts.skipShort}
      </ActButton>
    </span>
  );
}

function OpenDialog() {
  const { dialog, on, of, in: group } = useRoute().params;
  if (dialog === "retry" && on !== undefined) return <OneDialog key={on} act="retry" id={on} onClose={close} />;
  if (dialog !== "skip" || of === undefined || group === undefined) return null;
  return <SkipDialog orderKey={of} group={group} onClose={close} />;
}
