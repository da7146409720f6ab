import { useId } from "preact/hooks";
import { age, bytes } from "../kit/format";
import { Badge, Id, Long, Time, type Tone } from "../kit/parts";
import { link } from "../kit/route";
import { Table } from "../kit/table";
import { Facts } from "./facts";
import { StatusBadge } from "./message-table";
import { messageTexts as texts } from "./page-texts";
import type { GroupRow, Story } from "./shapes";
import { attemptsText, groupName, keysOf } from "./story";

const TONES: Record<GroupRow["state"], Tone> = { failed: "act", waiting: "info", handled: "ok", resolved: "plain" };

/** Of an error in the groups: the rest is a click away. */
const REASON_SHOWN = 300;

/** Of a line of the timeline. */
const LINE_SHOWN = 400;

export function MessageFacts({ story }: { story: Story }) {
  const { field } = texts;
  return (
    <Facts
      facts={[
        [field.id, <Id key="id" text={story.id} />],
        [field.event, <Id key="event" text={story.event} />],
        [field.status, <StatusBadge key="status" status={story.status} />],
        [field.producer, <Id key="producer" text={story.producer} />],
        [field.createdAt, <Time key="at" at={story.createdAt} />],
        [field.sendAt, story.sendAt !== undefined && <Time key="send" at={story.sendAt} />],
        [field.deadAt, story.deadAt !== undefined && <Time key="dead" at={story.deadAt} />],
        [field.dueAt, story.dueAt !== undefined && <Time key="due" at={story.dueAt} />],
        [field.attempts, attemptsText(story)],
        [field.queue, story.queue !== undefined && <Id key="queue" text={story.queue} />],
        [field.keys, story.keys !== undefined && <Id key="keys" text={story.keys} />],
        [field.orderKey, story.orderKey !== undefined && <Id key="order" text={story.orderKey} />],
        [field.requestID, story.requestID !== undefined && <Id key="request" text={story.requestID} />],
        [field.strategy, story.strategy],
        [field.bytes, bytes(story.bytes)],
        [
          field.replayOf,
          story.replayOf !== undefined && (
            <a key="replay" href={link("message", { id: story.replayOf })}>
              <Id text={story.replayOf} />
            </a>
          )
        ]
      ]}
    />
  );
}

export function GroupsTable({ groups }: { groups: readonly GroupRow[] }) {
  const { cols } = texts;
  return (
    <Table
      caption={texts.groups}
      captionHidden
      rows={groups}
      keyOf={({ group, state }) => `${group} ${state}`}
      empty={<p class="muted">{texts.noGroups}</p>}
      columns={[
        { id: "group", head: cols.group, rowHeader: true, cell: ({ group }) => <Id text={groupName(group)} /> },
        { id: "state", head: cols.state, cell: ({ state }) => <Badge tone={TONES[state]}>{state}</Badge> },
        { id: "attempts", head: cols.attempts, num: true, cell: ({ attempts }) => attempts },
        { id: "since", head: cols.since, cell: ({ ageMs }) => age(ageMs) },
        { id: "next", head: cols.next, cell: ({ nextAt }) => nextAt !== undefined && <Time at={nextAt} /> },
        {
          id: "reason",
          head: cols.reason,
          cell: ({ reason }) => reason !== undefined && <Long text={reason} max={REASON_SHOWN} />
        }
      ]}
    />
  );
}

export function Timeline({ entries }: { entries: Story["timeline"] }) {
  return (
    <ol class="timeline">
      {entries.map(({ at, what }, i) => (
        <li key={i}>
          <Time at={at} /> <Long text={what} max={LINE_SHOWN} />
        </li>
      ))}
    </ol>
  );
}

interface LinksGiven {
  story: Story;
  cause: Readonly<Record<string, string>> | undefined;
  trace: string | undefined;
}

/** Where to look next. */
export function SeeAlso({ story: { event, requestID, keys, orderKey }, cause, trace }: LinksGiven) {
  const id = useId();
  return (
    <nav class="card" aria-labelledby={id}>
      <h2 id={id}>{texts.links}</h2>
      <ul class="act-list">
        {cause && (
          <li>
            <a href={link("dead", cause)}>{texts.sameCause}</a>
          </li>
        )}
        <li>
          <a href={link("messages", { event })}>{texts.sameEvent}</a>
        </li>
        {orderKey !== undefined && (
          <li>
            <a href={link("keys", { key: orderKey })}>
              <bdi>{texts.orderKey(orderKey)}</bdi>
            </a>
          </li>
        )}
        {requestID !== undefined && (
          <li>
            <a href={link("messages", { requestID })}>{texts.sameRequest}</a>
          </li>
        )}
        {keysOf(keys).map(key => (
          <li key={key}>
            <a href={link("messages", { key })}>
              <bdi>{texts.sameKey(key)}</bdi>
            </a>
          </li>
        ))}
        {trace !== undefined && (
          <li>
            <a href={trace} target="_blank" rel="noreferrer noopener">
              {texts.trace}
            </a>
          </li>
        )}
      </ul>
    </nav>
  );
}
