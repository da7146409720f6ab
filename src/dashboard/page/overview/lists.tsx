import { needsSomething, statesOf } from "../groups/group-state";
import { count, counted } from "../kit/format";
import { Badge, Empty, Id, Long, Num, Time } from "../kit/parts";
import { link } from "../kit/route";
import { Table } from "../kit/table";
import { overview as words } from "../texts/overview";
import type { Overview } from "./next-steps";

/** Groups on which somebody has to act, or should have an eye. */
export function Attention({ data }: { data: Overview }) {
  const rows = data.groups
    .map(group => ({ ...group, states: statesOf(group, data) }))
    .filter(({ states }) => needsSomething(states));
  const { groupColumns } = words;
  return (
    <section class="card" aria-labelledby="attention">
      <h2 id="attention">{words.attention}</h2>
      <Table
        caption={words.attention}
        captionHidden
        rows={rows}
        keyOf={({ group }) => group}
        empty={<Empty>{words.noneNeeds}</Empty>}
        columns={[
          {
            id: "group",
            head: groupColumns.group,
            rowHeader: true,
            cell: ({ group }) => (
              <a href={link("groups", { group })}>
                <Id text={group} />
              </a>
            )
          },
          {
            id: "state",
            head: groupColumns.state,
            cell: ({ states }) => (
              <span class="badges">
                {states.map(({ tone, text }) => (
                  <Badge key={text} tone={tone}>
                    {text}
                  </Badge>
                ))}
              </span>
            )
          },
          { id: "ready", head: groupColumns.ready, num: true, cell: ({ ready }) => <Num value={ready} /> },
          {
            id: "dead",
            head: groupColumns.dead,
            num: true,
            cell: ({ group, dead, deadCapped }) =>
              dead ? (
                <a href={link("dead", { group })}>
                  <Num value={dead} capped={deadCapped} />
                </a>
              ) : (
                <Num value={dead} />
              )
          }
        ]}
      />
    </section>
  );
}

/** RabbitMQ, store, Redis; and whether the nodes answer. */
export function Servers({ data: { servers, nodes } }: { data: Overview }) {
  const asked = nodes.filter(({ answers }) => answers !== null);
  return (
    <section class="card" aria-labelledby="servers">
      <h2 id="servers">{words.servers}</h2>
      <ul class="lines">
        {servers.map(({ name, ok, text, awaySinceAt }) => (
          <li key={name}>
            <strong>{name}</strong> <Badge tone={ok ? "ok" : "act"}>{ok ? words.up : words.away}</Badge>{" "}
            {!ok && <Long text={text} max={200} />}
            {awaySinceAt && (
              <span class="muted">
                {" "}
                {words.since} <Time at={awaySinceAt} />
              </span>
            )}
          </li>
        ))}
      </ul>
      <p>
        <a href={link("servers")}>{words.nodes(asked.filter(({ answers }) => answers).length, asked.length)}</a>
      </p>
    </section>
  );
}

/** What somebody has begun, and what has stopped by itself. Nothing, where there is nothing. */
export function Bulks({ data: { bulks } }: { data: Overview }) {
  if (!bulks.length) return null;
  return (
    <section class="card" aria-labelledby="bulks">
      <h2 id="bulks">{words.bulks}</h2>
      <ul class="lines">
        {bulks.map(({ id, act, state, reason }) => (
          <li key={id}>
            <a href={link("acts", { bulk: id })}>{words.bulk(act)}</a>{" "}
            <Badge tone={state === "stopped" || state === "failed" ? "act" : "info"}>{state}</Badge>{" "}
            {reason && <Long text={reason} max={200} />}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** What waits for a message that is dead. Nothing, where nothing does. */
export function HeldKeys({ data: { keys } }: { data: Overview }) {
  if (!keys?.held) return null;
  return (
    <section class="card" aria-labelledby="keys">
      <h2 id="keys">{words.keys}</h2>
      <ul class="lines">
        {keys.longest.map(({ key, group, id, since, behind, capped }) => (
          <li key={`${key} ${group}`}>
            <a href={link("keys", { key })}>
              <Id text={key} />
            </a>{" "}
            {words.keyIn(count(behind, capped))} <Id text={group} /> {words.since} <Time at={since} />:{" "}
            <a href={link("message", { id })}>
              <Id text={id} />
            </a>
          </li>
        ))}
      </ul>
      <p>
        <a href={link("keys")}>{words.allKeys}</a>{" "}
        {keys.behind > 0 && (
          <span class="muted note">
            {words.keysBehind(counted(keys.behind, "message waits", "messages wait", keys.capped.includes("behind")))}
          </span>
        )}
      </p>
    </section>
  );
}

/** What somebody has paused, and what waits for something else. Nothing, where there is nothing. */
export function Held({ data: { paused, breakers } }: { data: Overview }) {
  if (!paused.length && !breakers.length) return null;
  return (
    <div class="columns">
      {paused.length > 0 && (
        <section class="card" aria-labelledby="paused">
          <h2 id="paused">{words.paused}</h2>
          <ul class="lines">
            {paused.map(({ group, pattern, sinceAt, by }) => (
              <li key={`${group} ${pattern}`}>
                <a href={link("groups", { group })}>
                  <Id text={group} />
                </a>{" "}
                {pattern !== undefined && <Id text={pattern} />} <bdi>{words.pausedBy(by)}</bdi> <Time at={sinceAt} />
              </li>
            ))}
          </ul>
        </section>
      )}
      {breakers.length > 0 && (
        <section class="card" aria-labelledby="breakers">
          <h2 id="breakers">{words.breakers}</h2>
          <ul class="lines">
            {breakers.map(({ group, nodeID, sinceAt }) => (
              <li key={`${group} ${nodeID}`}>
                <a href={link("groups", { group })}>
                  <Id text={group} />
                </a>{" "}
                <bdi>{words.onNode(nodeID)}</bdi> <Time at={sinceAt} />
              </li>
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}
