import { api } from "../kit/api";
import { ActDialog } from "./act-dialog";
import { ActFailure } from "./act-failure";
import { actTexts as texts } from "./texts";
import { useCount } from "./use-count";

/** Personal data: the payloads of all finished messages with a key. */
export function EraseDialog({ messageKey, onClose }: { messageKey: string; onClose: () => void }) {
  const { data, error } = useCount("erase", () => api.act("erase", { key: messageKey, dryRun: true }), messageKey);
  return (
    <ActDialog
      act="erase"
      tone="danger"
      title={<bdi>{texts.erase.title(messageKey)}</bdi>}
      submit={texts.erase.submit}
      onClose={onClose}
      typed={{ what: messageKey, isRight: text => text.trim() === messageKey }}
      reason={data ? undefined : error ? texts.notCounted : texts.counting}
      onAct={async note => {
        const answer = await api.act("erase", { key: messageKey, note });
        return <What erased={texts.erase.done(answer.erased)} answer={answer} />;
      }}
    >
      <p class="act-warning">{texts.erase.text}</p>
      {error && <ActFailure error={error} />}
      {data && <What erased={texts.erase.would(data.erased, data.capped)} answer={data} />}
    </ActDialog>
  );
}

interface WhatGiven {
  erased: string;
  answer: { already: number; left: { status: string; messages: number; why: string }[] };
}

function What({ erased, answer: { already, left } }: WhatGiven) {
  return (
    <>
      <p>{erased}</p>
      {already > 0 && <p>{texts.erase.already(already)}</p>}
      {left.map(({ status, messages, why }) => (
        <p key={status}>{texts.erase.left(messages, status, why)}</p>
      ))}
    </>
  );
}
