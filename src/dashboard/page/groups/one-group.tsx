import { Chart } from "../kit/chart";
import { ms, perMinute } from "../kit/format";
import { Id, Long, Num, Time } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { link, useRoute } from "../kit/route";
import { Table } from "../kit/table";
import { askedOf, wholeSteps } from "../overview/span";
import { groups as words } from "../texts/groups";
import { overview } from "../texts/overview";
import { PatternActs } from "./group-acts";
import { type Going, type Group, namesGroup } from "./group-state";

interface OneGroupProps {
  row: Group;
  going: Going;
}

/** A group's queues, its last hour, and who has paused it and why. */
export function OneGroup({ row, going }: OneGroupProps) {
  const { params } = useRoute();
  const { group, queues } = row;
  const { queueColumns: heads } = words;
  return (
    <section class="card" aria-labelledby="one-group">
      <div class="page-head">
        <h2 id="one-group">
          <bdi>{words.queuesOf(group)}</bdi>
        </h2>
        <div class="row">
          <a class="button small" href={link("dead", { group })}>
            {words.deadMessages}
          </a>
          <a class="button small" href={link("messages", { group })}>
            {words.messages}
          </a>
          <a class="button small" href={link("groups", { ...params, group: undefined })}>
            {words.close}
          </a>
        </div>
      </div>
      <Pauses group={group} />
      <Table
        caption={words.queuesOf(group)}
        captionHidden
        rows={queues}
        keyOf={({ queue }) => queue}
        empty={<p class="muted">{words.neverSeen}</p>}
        columns={[
          { id: "pattern", head: heads.pattern, rowHeader: true, cell: ({ pattern }) => <Id text={pattern} /> },
          { id: "queue", head: heads.queue, cell: ({ queue }) => <Id text={queue} /> },
          {
            id: "ready",
            head: heads.ready,
            num: true,
            cell: ({ ready, known }) => <Num value={ready} unknown={known ? words.notThere : words.notTold} />
          },
          { id: "consumers", head: heads.consumers, num: true, cell: ({ consumers }) => <Num value={consumers} /> },
          {
            id: "acts",
            head: heads.acts,
            headHidden: true,
            cell: ({ pattern }) => <PatternActs row={row} going={going} pattern={pattern} />
          }
        ]}
      />
      <Hour group={group} />
    </section>
  );
}

/** With the note, which the overview has not. */
function Pauses({ group }: { group: string }) {
  const { data } = usePoll("paused", {});
  const own = data?.filter(pause => namesGroup(pause.group, group)) ?? [];
  return (
    <>
      {own.map(({ group: named, pattern, by, since, note }) => (
        <p key={`${named} ${pattern}`} class="notice">
          <bdi>{words.pausedBanner(named, by, pattern)}</bdi> <Time at={since} />: <Long text={note} max={300} />
        </p>
      ))}
    </>
  );
}

function Hour({ group }: { group: string }) {
  const poll = usePoll("history", { ...askedOf("hour", Date.now()), group }, { keep: true, everyMs: 20_000 });
  return (
    <Polled poll={poll} quiet>
      {history => {
        const steps = wholeSteps(history);
        const times = steps.map(({ at }) => at);
        if (steps.every(({ handled, failed, dead }) => !handled && !failed && !dead))
          return <p class="muted">{words.quiet}</p>;
        return (
          <div class="columns charts">
            <Chart
              title={words.hour(group)}
              times={times}
              format={perMinute}
              series={[
                { name: overview.handled, look: "series-2", values: steps.map(({ handled }) => handled) },
                { name: overview.failed, look: "series-3", values: steps.map(({ failed }) => failed) },
                { name: overview.dead, look: "series-4", values: steps.map(({ dead }) => dead) }
              ]}
            />
            <Chart
              title={words.latency(group)}
              times={times}
              format={ms}
              series={[{ name: overview.p95, look: "series-1", values: steps.map(({ p95Ms }) => p95Ms) }]}
            />
          </div>
        );
      }}
    </Polled>
  );
}
