import { useEffect, useState } from "preact/hooks";
import { api, failureOf } from "../kit/api";
import { ErrorBox } from "../kit/error-box";
import { Copy, Long, Time } from "../kit/parts";
import { Scroll } from "../kit/scroll";
import { session } from "../kit/session";
import { messageTexts as texts } from "./page-texts";
import type { PayloadAnswer } from "./shapes";

/** As much as is shown at first. */
const SHOWN = 4000;

export const jsonText = (value: unknown): string =>
  typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? String(value));

/** Read once and not with every poll, since it may be large; where payloads are hidden, only when somebody asks for it. */
export function Payload({ id, droppedAt }: { id: string; droppedAt: string | undefined }) {
  const [state, setState] = useState<{ answer?: PayloadAnswer; error?: unknown; busy?: boolean }>({});
  const show = async () => {
    setState({ busy: true });
    try {
      setState({ answer: await api.read("payload", { id }) });
    } catch (error) {
      setState({ error: failureOf(error) });
    }
  };
  const isHidden = session.value?.hidePayloads ?? true;
  useEffect(() => {
    if (!isHidden && droppedAt === undefined) void show();
  }, [id, isHidden, droppedAt]);
  if (droppedAt !== undefined)
    return (
      <p>
        {texts.payloadDropped}: <Time at={droppedAt} />
      </p>
    );
  const { answer, error, busy = false } = state;
  if (!answer)
    return (
      <>
        {isHidden && <p class="muted">{texts.payloadHidden}</p>}
        <p>
          <button type="button" class="button" disabled={busy} onClick={() => void show()}>
            {texts.showPayload}
          </button>
        </p>
        {error !== undefined && <ErrorBox error={error} />}
      </>
    );
  const { meta, withheld } = answer;
  const text = jsonText(answer.payload);
  return (
    <>
      {withheld !== undefined && <p>{withheld}</p>}
      {answer.encoded && <p>{texts.encoded}</p>}
      <Scroll label={texts.payload} className="payload">
        <pre>
          <Long text={text} max={SHOWN} />
        </pre>
      </Scroll>
      <div class="row">
        <Copy text={text} />
        <button type="button" class="button small" onClick={() => setState({})}>
          {texts.hidePayload}
        </button>
      </div>
      {meta !== undefined && <Meta meta={meta} />}
    </>
  );
}

export function Meta({ meta }: { meta: Record<string, unknown> }) {
  if (!Object.keys(meta).length) return null;
  return (
    <>
      <h3>{texts.meta}</h3>
      <Scroll label={texts.meta} className="payload">
        <pre>
          <Long text={jsonText(meta)} max={SHOWN} />
        </pre>
      </Scroll>
    </>
  );
}
