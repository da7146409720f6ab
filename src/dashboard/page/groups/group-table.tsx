import { perMinute } from "../kit/format";
import { Ago, Badge, Empty, Id, Num } from "../kit/parts";
import { link, useRoute } from "../kit/route";
import { type Column, Table } from "../kit/table";
import { groups as words } from "../texts/groups";
import { GroupActs } from "./group-acts";
import { type Going, type Group, statesOf } from "./group-state";

interface GroupTableProps {
  rows: Group[];
  going: Going;
  /** All, also those that the filter leaves out. */
  total: number;
}

export function GroupTable({ rows, going, total }: GroupTableProps) {
  const { params } = useRoute();
  const { columns: heads } = words;
  const columns: Column<Group>[] = [
    {
      id: "group",
      head: heads.group,
      rowHeader: true,
      cell: ({ group, queues }) => (
        <>
          <a href={link("groups", { ...params, group })} aria-current={params["group"] === group ? "true" : undefined}>
            <Id text={group} />
          </a>
          <span class="muted note under">{words.queues(queues.length)}</span>
        </>
      )
    },
    { id: "state", head: heads.state, cell: row => <States row={row} going={going} /> },
    { id: "ready", head: heads.ready, num: true, cell: row => <Num value={row.ready} unknown={unknownText(row)} /> },
    { id: "consumers", head: heads.consumers, num: true, cell: ({ consumers }) => <Num value={consumers} /> },
    { id: "handled", head: heads.handled, num: true, cell: row => perMinute(row.handledPerMinute) },
    {
      id: "failed",
      head: heads.failed,
      num: true,
      cell: row => <span class={row.failedPerMinute ? "bad" : undefined}>{perMinute(row.failedPerMinute)}</span>
    },
    { id: "dead", head: heads.dead, num: true, cell: row => <DeadLink row={row} /> },
    {
      id: "seen",
      head: heads.seen,
      wide: true,
      cell: ({ lastNode, lastSeenAt }) => (
        <>
          <Ago at={lastSeenAt} />
          {lastNode && (
            <span class="muted note under">
              <Id text={words.on(lastNode)} />
            </span>
          )}
        </>
      )
    },
    { id: "acts", head: heads.acts, headHidden: true, cell: row => <GroupActs row={row} going={going} /> }
  ];
  return (
    <Table
      caption={words.caption}
      captionHidden
      rows={rows}
      columns={columns}
      keyOf={({ group }) => group}
      empty={<Empty>{total ? words.noneMatches : words.none}</Empty>}
    />
  );
}

export function States({ row, going }: { row: Group; going: Going }) {
  return (
    <span class="badges">
      {statesOf(row, going).map(({ tone, text }) => (
        <Badge key={text} tone={tone}>
          <bdi>{text}</bdi>
        </Badge>
      ))}
    </span>
  );
}

/** Of a number that is not there. */
function unknownText({ queues }: Group): string {
  return queues.some(({ known }) => !known) ? words.notTold : words.noneThere;
}

function DeadLink({ row: { group, dead, deadCapped } }: { row: Group }) {
  if (!dead) return <Num value={dead} />;
  return (
    <a href={link("dead", { group })}>
      <Num value={dead} capped={deadCapped} />
    </a>
  );
}
