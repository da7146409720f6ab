import { ActButton } from "../acts/act-button";
import { SweepDialog } from "../acts/sweep-dialog";
import type { Answer } from "../kit/api-types";
import { Badge, Empty, Id, Long, PageHead, Time } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { setParams, useRoute } from "../kit/route";
import { Table } from "../kit/table";
import { NodeTable } from "../servers/node-table";
import { leasesOf } from "../servers/node-words";
import { servers as words } from "../texts/servers";

type Overview = Answer<"overview">;

export function Servers() {
  const poll = usePoll("overview", {});
  const { dialog } = useRoute().params;
  return (
    <>
      <PageHead title={words.title}>
        <ActButton act="sweep" onClick={() => setParams({ dialog: "sweep" })}>
          {words.sweep}
        </ActButton>
      </PageHead>
      <Polled poll={poll}>
        {data => (
          <>
            <ServerTable data={data} />
            <NodeTable nodes={data.nodes} own={data.nodeID} />
            <Leases data={data} />
          </>
        )}
      </Polled>
      {dialog === "sweep" && <SweepDialog onClose={() => setParams({ dialog: undefined }, { replace: true })} />}
    </>
  );
}

function ServerTable({ data: { servers, nodeID } }: { data: Overview }) {
  const { serverColumns: heads } = words;
  return (
    <section class="card" aria-labelledby="servers">
      <h2 id="servers">{words.servers}</h2>
      <Table
        caption={words.servers}
        captionHidden
        rows={servers}
        keyOf={({ name }) => name}
        columns={[
          { id: "name", head: heads.name, rowHeader: true, cell: ({ name }) => name },
          {
            id: "state",
            head: heads.state,
            cell: ({ ok }) => <Badge tone={ok ? "ok" : "act"}>{ok ? words.up : words.away}</Badge>
          },
          {
            id: "text",
            head: heads.text,
            cell: ({ name, ok, text }) => (
              <>
                <Long text={text} max={400} />
                {!ok && <span class="muted note under">{words.meaning[name]}</span>}
              </>
            )
          },
          { id: "since", head: heads.since, cell: ({ awaySinceAt }) => <Time at={awaySinceAt} /> }
        ]}
      />
      <p class="muted note">
        <bdi>{words.seenBy(nodeID)}</bdi>
      </p>
    </section>
  );
}

function Leases({ data: { leaseHolders: holders, nodes, nodeID } }: { data: Overview }) {
  const isObserver = nodes.some(({ nodeID: id, kind }) => id === nodeID && kind === "observer");
  const { leaseColumns: heads } = words;
  return (
    <section class="card" aria-labelledby="leases">
      <h2 id="leases">{words.leases}</h2>
      {holders ? (
        <Table
          caption={words.leasesCaption}
          rows={leasesOf(holders)}
          keyOf={({ holder }) => holder ?? ""}
          columns={[
            {
              id: "holder",
              head: heads.holder,
              rowHeader: true,
              cell: ({ holder }) =>
                holder === null ? <Badge tone="watch">{words.nobody}</Badge> : <Id text={holder} />
            },
            { id: "partitions", head: heads.partitions, cell: ({ partitions }) => partitions.join(", ") }
          ]}
        />
      ) : (
        <Empty>{words.noLeases}</Empty>
      )}
      <p class="muted note">{isObserver ? words.sweepHintObserver : words.sweepHint}</p>
    </section>
  );
}
