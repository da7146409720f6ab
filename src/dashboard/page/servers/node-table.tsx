import { Badge, Empty, Id, Long, Num, Time } from "../kit/parts";
import { type Column, Table } from "../kit/table";
import { servers as words } from "../texts/servers";
import { inFlightText, type Node, nodeState, sweepingText } from "./node-words";

interface NodeTableProps {
  nodes: Node[];
  /** The one that serves the page. */
  own: string;
}

/** One that does not answer is a row too. */
export function NodeTable({ nodes, own }: NodeTableProps) {
  const { nodeColumns: heads } = words;
  const columns: Column<Node>[] = [
    {
      id: "node",
      head: heads.node,
      rowHeader: true,
      cell: ({ nodeID, kind }) => (
        <>
          <Id text={nodeID} />
          <span class="muted note under">
            {words.kinds[kind] ?? kind}
            {nodeID === own && `, ${words.serves}`}
          </span>
        </>
      )
    },
    {
      id: "state",
      head: heads.state,
      cell: node => {
        const { tone, text } = nodeState(node);
        return <Badge tone={tone}>{text}</Badge>;
      }
    },
    { id: "why", head: heads.why, cell: node => <Why node={node} /> },
    { id: "sweeping", head: heads.sweeping, cell: sweepingText },
    { id: "inFlight", head: heads.inFlight, cell: inFlightText },
    {
      id: "reconnects",
      head: heads.reconnects,
      num: true,
      wide: true,
      cell: ({ health }) => <Num value={health?.reconnects} />
    },
    {
      id: "seen",
      head: heads.seen,
      wide: true,
      cell: ({ lastSeenAt, health }) => (health ? <bdi>{health.lastSweep}</bdi> : <Time at={lastSeenAt} />)
    }
  ];
  return (
    <section class="card" aria-labelledby="nodes">
      <h2 id="nodes">{words.nodes}</h2>
      <Table
        caption={words.nodesCaption}
        captionHidden
        rows={nodes}
        columns={columns}
        keyOf={({ nodeID }) => nodeID}
        empty={<Empty>{words.noNodes}</Empty>}
      />
    </section>
  );
}

function Why({ node }: { node: Node }) {
  const { more } = nodeState(node);
  if (!more.length) return words.none;
  return (
    <ul class="lines">
      {more.map(text => (
        <li key={text}>
          <Long text={text} max={400} />
        </li>
      ))}
    </ul>
  );
}
