import { api } from "../kit/api";
import { Id } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { ActDialog } from "./act-dialog";
import { actTexts as texts } from "./texts";

export interface GroupGiven {
  group: string;
  /** Only its handler of this event or pattern. */
  pattern?: string | undefined;
  onClose: () => void;
}

/** As people call it: `mail`, or `mail (order.*)`. */
export const nameOf = (group: string, pattern: string | undefined): string =>
  pattern === undefined ? group : `${group} (${pattern})`;

/** As the calls take it. */
export const keyOf = (group: string, pattern: string | undefined): { group: string; pattern?: string } => ({
  group,
  ...(pattern !== undefined && { pattern })
});

/** The wildcard consumers `<group>:<pattern>` are of the group too. */
const isOf = (group: string, other: string) => other === group || other.startsWith(`${group}:`);

export function PauseDialog({ group, pattern, onClose }: GroupGiven) {
  const name = nameOf(group, pattern);
  const subscriptions = usePoll("subscriptions", {});
  return (
    <ActDialog
      act="pause"
      title={<bdi>{texts.pause.title(name)}</bdi>}
      submit={texts.pause.submit(name)}
      onClose={onClose}
      onAct={async note => {
        const { queues, marked } = await api.act("pause", { ...keyOf(group, pattern), note });
        const left = queues.reduce((sum, { consumers }) => sum + (consumers ?? 0), 0);
        return (
          <>
            <p>
              <bdi>{texts.pause.done(name)}</bdi>
            </p>
            {left > 0 && <p>{texts.pause.left(left)}</p>}
            {!marked && <p>{texts.pause.notMarked}</p>}
          </>
        );
      }}
    >
      <p>{texts.pause.text}</p>
      <h3>{texts.pause.queues}</h3>
      <Polled poll={subscriptions}>
        {rows => (
          <ul class="act-list">
            {rows
              .filter(row => isOf(group, row.group) && (pattern === undefined || row.pattern === pattern))
              .map(({ queue, ready, consumers, lastNode }) => (
                <li key={queue}>
                  <Id text={queue} />: {texts.pause.ready(ready)}, {texts.pause.consumers(consumers)},{" "}
                  {texts.pause.lastOn} <bdi>{lastNode}</bdi>
                </li>
              ))}
          </ul>
        )}
      </Polled>
    </ActDialog>
  );
}
