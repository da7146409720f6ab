import { useRef, useState } from "preact/hooks";
import { api } from "../kit/api";
import { count } from "../kit/format";
import { Id } from "../kit/parts";
import { ActDialog } from "./act-dialog";
import { isNumber } from "./filter";
import { listTexts } from "./page-texts";
import type { ActResult, FilterAct } from "./shapes";
import { actTexts as texts } from "./texts";

interface Given {
  act: FilterAct;
  ids: readonly string[];
  onClose: () => void;
  /** Something was done, and what came of it has been read. */
  onDone: () => void;
}

/** Above this the number is typed. */
const TYPED_ABOVE = 100;

/** Retry, resolve or discard those that are ticked. What came of each is told. */
export function SomeDialog({ act, ids: ticked, onClose, onDone }: Given) {
  // What the dialog has shown is what is done, whatever becomes of the list below it.
  const [ids] = useState(ticked);
  const isDone = useRef(false);
  const n = ids.length;
  return (
    <ActDialog
      act={act}
      title={texts.some.title(act, n)}
      submit={texts.some.submit(act, n)}
      onClose={() => {
        if (isDone.current) onDone();
        onClose();
      }}
      typed={act === "discard" || n > TYPED_ABOVE ? { what: count(n), isRight: text => isNumber(text, n) } : undefined}
      noteLabel={act === "resolve" ? texts.one.resolveWhy : undefined}
      reason={n ? undefined : listTexts.tickFirst}
      {...(act === "discard" && { tone: "danger" as const })}
      onAct={async note => {
        const result = await api.act(act, { ids: [...ids], note });
        isDone.current = true;
        return <Outcome act={act} result={result} />;
      }}
    >
      <p class={act === "discard" ? "act-warning" : undefined}>{texts.some[act]}</p>
      <ul class="act-list">
        {ids.map(id => (
          <li key={id}>
            <Id text={id} />
          </li>
        ))}
      </ul>
    </ActDialog>
  );
}

function Outcome({ act, result: { done, outcomes = [] } }: { act: FilterAct; result: ActResult }) {
  const left = outcomes.filter(({ outcome }) => outcome !== "done");
  return (
    <>
      <p>{texts.some.result(done, outcomes.length, texts.some.done[act])}</p>
      {left.length > 0 && (
        <>
          <h3>{texts.some.left}</h3>
          <ul class="act-list">
            {left.map(({ id, outcome, reason }) => (
              <li key={id}>
                <Id text={id} />: <bdi>{reason ?? outcome}</bdi>
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}
