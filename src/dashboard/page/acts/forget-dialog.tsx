import { api } from "../kit/api";
import { ActDialog } from "./act-dialog";
import { ActFailure } from "./act-failure";
import { type GroupGiven, keyOf, nameOf } from "./pause-dialog";
import { actTexts as texts } from "./texts";
import { useCount } from "./use-count";

/** Of a group that is gone for good. What a dry run says is shown, and the group's name is typed. */
export function ForgetDialog({ group, pattern, onClose }: GroupGiven) {
  const key = keyOf(group, pattern);
  const name = nameOf(group, pattern);
  const dryRun = useCount("forget", () => api.act("forget", { ...key, dryRun: true }), name);
  const { data, error } = dryRun;
  return (
    <ActDialog
      act="forget"
      tone="danger"
      title={<bdi>{texts.forget.title(name)}</bdi>}
      submit={texts.forget.submit(name)}
      onClose={onClose}
      typed={{ what: group, isRight: text => text.trim() === group }}
      reason={data ? undefined : error ? texts.notCounted : texts.counting}
      onAct={async note => {
        const { messages } = await api.act("forget", { ...key, note });
        return texts.forget.done(messages);
      }}
    >
      <p class="act-warning">{texts.forget.text}</p>
      {error && <ActFailure error={error} />}
      {data && (
        <>
          <p>{texts.forget.freed(data.messages)}</p>
          <h3>{texts.forget.queues}</h3>
          <ul class="act-list">
            {data.queues.map(({ queue, ready }) => (
              <li key={queue}>
                <bdi>{texts.forget.queue(queue, ready)}</bdi>
              </li>
            ))}
            {data.living.map(({ queue, consumers }) => (
              <li key={queue}>
                <bdi>{texts.forget.living(queue, consumers)}</bdi>
              </li>
            ))}
          </ul>
        </>
      )}
    </ActDialog>
  );
}
