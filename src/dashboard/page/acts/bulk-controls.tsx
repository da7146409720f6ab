import { useState } from "preact/hooks";
import { api } from "../kit/api";
import { refreshAll } from "../kit/poll";
import { ActButton } from "./act-button";
import { ActDialog } from "./act-dialog";
import { ActFailure } from "./act-failure";
import { faster, slower } from "./progress";
import type { BulkStory } from "./shapes";
import { actTexts } from "./texts";

const texts = actTexts.bulk;

type Change = { change: "pause" | "resume" } | { change: "rate"; perSecond: number };

/** Slower, faster, pause, resume at once; to stop is for good, and is asked. */
export function BulkControls({ story }: { story: BulkStory }) {
  const { bulkID: id, act, state, perSecond } = story;
  const [error, setError] = useState<unknown>();
  const [isStopping, setStopping] = useState(false);
  const change = async (what: Change) => {
    setError(undefined);
    try {
      await api.act("bulkChange", { id, ...what });
    } catch (thrown) {
      setError(thrown);
    }
    refreshAll();
  };
  const isEnding = state === "stopping" ? texts.states["stopping"] : undefined;
  const [less, more] = [slower(perSecond), faster(perSecond)];
  const rate = (to: number) => () => void change({ change: "rate", perSecond: to });
  return (
    <div class="row bulk-controls">
      <ActButton
        act={act}
        reason={isEnding ?? (less === perSecond ? texts.slowest : undefined)}
        onClick={rate(less)}
        label={texts.slowerTo(less)}
      >
        {texts.slower}
      </ActButton>
      <ActButton
        act={act}
        reason={isEnding ?? (more === perSecond ? texts.fastest : undefined)}
        onClick={rate(more)}
        label={texts.fasterTo(more)}
      >
        {texts.faster}
      </ActButton>
      {state === "paused" ? (
        <ActButton act={act} onClick={() => void change({ change: "resume" })}>
          {texts.resume}
        </ActButton>
      ) : (
        <ActButton act={act} reason={isEnding} onClick={() => void change({ change: "pause" })}>
          {texts.pause}
        </ActButton>
      )}
      <ActButton act={act} reason={isEnding} tone="danger" onClick={() => setStopping(true)}>
        {texts.stop}
      </ActButton>
      {error !== undefined && <ActFailure error={error} />}
      {isStopping && <StopDialog story={story} onClose={() => setStopping(false)} />}
    </div>
  );
}

function StopDialog({ story: { bulkID: id, act, left }, onClose }: { story: BulkStory; onClose: () => void }) {
  return (
    <ActDialog
      act={act}
      title={texts.stopTitle}
      submit={texts.stop}
      tone="danger"
      noteLabel={texts.stopWhy}
      noteOptional
      onClose={onClose}
      onAct={async note => {
        await api.act("bulkChange", { id, change: "stop", ...(note && { note }) });
      }}
    >
      <p>{act === "replay" ? texts.stopTextReplay : texts.stopText(left)}</p>
    </ActDialog>
  );
}
