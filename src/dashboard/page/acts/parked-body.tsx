import { useState } from "preact/hooks";
import type { ParkedWhole } from "../kit/api";
import { Copy, Long } from "../kit/parts";
import { Scroll } from "../kit/scroll";
import { session } from "../kit/session";
import { parkedTexts as texts } from "./page-texts";

/** Of a stranger, and of up to 4 MiB. Where payloads are hidden it is a payload as any other. */
export function ParkedBody({ parked }: { parked: ParkedWhole & { withheld?: string } }) {
  const [isShown, setShown] = useState(!(session.value?.hidePayloads ?? true));
  const { body, encoding, cut, withheld } = parked;
  return (
    <>
      <h3>
        {texts.body}
        {encoding === "base64" && " (base64)"}
      </h3>
      {withheld !== undefined && <p>{withheld}</p>}
      {cut && <p>{texts.cut}</p>}
      {body !== undefined && !isShown && (
        <>
          <p class="muted">{texts.hidden}</p>
          <p>
            <button type="button" class="button" onClick={() => setShown(true)}>
              {texts.showBody}
            </button>
          </p>
        </>
      )}
      {body !== undefined && isShown && (
        <>
          <Scroll label={texts.body} className="payload">
            <pre>
              <Long text={body} max={4000} />
            </pre>
          </Scroll>
          <Copy text={body} />
        </>
      )}
    </>
  );
}
