import { useMemo } from "preact/hooks";
import { api } from "../kit/api";
import { clock } from "../kit/format";
import { Id, Time } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { ActDialog } from "./act-dialog";
import type { OneAct, Story } from "./shapes";
import { retryTargets } from "./story";
import { actTexts as texts } from "./texts";

interface Given {
  act: OneAct;
  id: string;
  onClose: () => void;
  /** It is done, for this reason. */
  onDone?: (note: string) => void;
}

/** Retry, resolve or discard one message, or call it off. */
export function OneDialog({ act, id, onClose, onDone }: Given) {
  const story = usePoll("get", { id, payload: false });
  const typed = useMemo(() => ({ what: id, isRight: (text: string) => text.trim() === id }), [id]);
  const { data } = story;
  const wanted = act === "cancel" ? "scheduled" : "dead";
  const isOver = data !== undefined && data.status !== wanted;
  const why = act === "cancel" ? texts.one.notScheduled : texts.one.notDead;
  return (
    <ActDialog
      act={act}
      id={id}
      title={<bdi>{texts.one.title(act, id)}</bdi>}
      submit={texts.one.submit(act)}
      onClose={onClose}
      typed={act === "discard" ? typed : undefined}
      noteLabel={act === "resolve" ? texts.one.resolveWhy : undefined}
      reason={isOver ? why(data.status) : undefined}
      {...((act === "discard" || act === "cancel") && { tone: "danger" as const })}
      onAct={async note => {
        await api.act(act, { id, note });
        onDone?.(note);
      }}
    >
      <Polled poll={story}>{found => <Meaning act={act} story={found} />}</Polled>
    </ActDialog>
  );
}

function Meaning({ act, story }: { act: OneAct; story: Story }) {
  const { again, not } = retryTargets(story, ageMs => clock(Date.now() - ageMs));
  return (
    <>
      <p>
        <bdi>{story.event}</bdi> · <Id text={story.id} />
      </p>
      {act === "cancel" && (
        <p class="act-warning">
          {story.sendAt !== undefined && (
            <>
              {texts.one.sendAt} <Time at={story.sendAt} />.{" "}
            </>
          )}
          {texts.one.cancel}
        </p>
      )}
      {act === "resolve" && <p>{texts.one.resolve}</p>}
      {act === "discard" && <p class="act-warning">{texts.one.discard}</p>}
      {act === "retry" && (
        <p>
          {texts.one.again} <strong>{again || texts.one.nobody}</strong>.
          {not && (
            <>
              {" "}
              {texts.one.not} <bdi>{not}</bdi>.
            </>
          )}
        </p>
      )}
    </>
  );
}
