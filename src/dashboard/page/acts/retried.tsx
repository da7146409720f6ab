import { useState } from "preact/hooks";
import { ErrorBox } from "../kit/error-box";
import { Id, Long } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { link } from "../kit/route";
import { outlookOf } from "./story";

/** Soon enough to see a handler of some ms. */
const EVERY_MS = 1000;

/** What becomes of a message that was sent again: told as it happens. */
export function Retried({ id, heading, params }: { id: string; heading: string; params: Record<string, string> }) {
  const [isOver, setOver] = useState(false);
  const { data, error } = usePoll("get", { id, payload: false }, { everyMs: EVERY_MS, off: isOver });
  const outlook = data && outlookOf(data);
  const over = outlook?.tone === "good";
  if (over !== isOver) setOver(over);
  return (
    <section class={`card retried ${outlook?.tone ?? ""}`} aria-label={heading}>
      <h2>{heading}</h2>
      <p>
        <a href={link("message", { ...params, id })}>
          <Id text={id} />
        </a>
      </p>
      <p role="status" class="outlook">
        {outlook && <Long text={outlook.text} max={300} />}
      </p>
      {error && <ErrorBox error={error} />}
    </section>
  );
}
