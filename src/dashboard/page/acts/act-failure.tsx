import { useEffect, useState } from "preact/hooks";
import { api, failureOf } from "../kit/api";
import { ErrorBox } from "../kit/error-box";
import { link } from "../kit/route";
import { whoWasFaster } from "./story";
import { actTexts as texts } from "./texts";

/** Of these nobody knows whether the server has done it. */
const UNSURE = ["NETWORK", "NO_JSON", "REQUEST_TIMEOUT"];

interface Given {
  error: unknown;
  /** Of the message that the act was about, if that is one. */
  id?: string | undefined;
}

/** Why an act has failed, what to do, and who was faster. */
export function ActFailure({ error, id }: Given) {
  const { type, data } = failureOf(error);
  const bulk = type === "RELIABLE_BULK_RUNNING" ? data["id"] : undefined;
  return (
    <div class="act-failure">
      <ErrorBox error={error} />
      {UNSURE.includes(type) && <p>{texts.notKnown}</p>}
      {type === "RELIABLE_ILLEGAL_TRANSITION" && id !== undefined && <Faster id={id} />}
      {typeof bulk === "string" && (
        <p>
          <a href={link("acts", { bulk })}>{texts.all.showRunning}</a>
        </p>
      )}
    </div>
  );
}

/** So far back the records are looked through. */
const LOOKED_AT = 100;

function Faster({ id }: { id: string }) {
  const [told, setTold] = useState<string>();
  useEffect(() => {
    let isGone = false;
    const tell = (text: string) => {
      if (!isGone) setTold(text);
    };
    api
      .read("audits", { pageSize: LOOKED_AT })
      .then(({ rows }) => tell(whoWasFaster(id, rows, Date.now()) ?? texts.nobodyElse))
      .catch(() => tell(texts.nobodyElse));
    return () => {
      isGone = true;
    };
  }, [id]);
  if (told === undefined) return null;
  return (
    <p>
      <bdi>{told}</bdi> <a href={link("message", { id })}>{texts.show}</a>
    </p>
  );
}
