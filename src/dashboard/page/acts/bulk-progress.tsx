import { useId, useState } from "preact/hooks";
import { dateTime } from "../kit/format";
import { Badge, Copy, Long, type Tone } from "../kit/parts";
import { Polled } from "../kit/polled";
import { link } from "../kit/route";
import { BulkControls } from "./bulk-controls";
import { usePollOne } from "./poll-one";
import { isUnderWay, progressText, summaryOf, underWay, worked } from "./progress";
import type { BulkStory } from "./shapes";
import { actTexts } from "./texts";

const texts = actTexts.bulk;

/** Often enough to stop it in time. */
const EVERY_MS = 2000;

interface Given {
  id: string;
  /** Of the page it was begun on: those that are dead again are shown with it. */
  params?: Readonly<Record<string, string>>;
  level?: "h2" | "h3";
}

/** How far a bulk act is, for everybody who looks; it goes on whether somebody looks or not. */
export function BulkProgress({ id, params = {}, level = "h2" }: Given) {
  const [isOver, setOver] = useState(false);
  const poll = usePollOne("bulks", id, { everyMs: EVERY_MS, off: isOver });
  const { data } = poll;
  // Those under way have an outcome later than the act has an end.
  const over = data !== undefined && !isUnderWay(data) && !underWay(data);
  if (over !== isOver) setOver(over);
  return <Polled poll={poll}>{story => <Shown story={story} params={params} level={level} />}</Polled>;
}

const TONES: Record<string, Tone> = { running: "info", paused: "watch", stopping: "watch", done: "ok", failed: "act" };

function Shown({ story, params, level: Heading }: { story: BulkStory } & Required<Pick<Given, "params" | "level">>) {
  const id = useId();
  const { bulkID, act, by, startedAt, matched, filter, note, why, state, failedAgain = 0, changes } = story;
  const address = new URL(link("acts", { bulk: bulkID }), location.href).href;
  return (
    <section class="card bulk" aria-labelledby={id}>
      <Heading id={id}>
        {texts.heading[act] ?? act} <bdi>{texts.startedBy(by, dateTime(startedAt))}</bdi>
      </Heading>
      <p role="status">
        <Badge tone={TONES[state] ?? "plain"}>{texts.states[state] ?? state}</Badge>
      </p>
      <progress aria-label={texts.progress} max={Math.max(1, matched)} value={worked(story)} />
      <p class="bulk-numbers">{progressText(story)}</p>
      {why !== undefined && (
        <p>
          <Long text={why} max={400} />
        </p>
      )}
      <p class="muted">
        <Long text={filter} max={400} />
      </p>
      {note !== undefined && (
        <p>
          {actTexts.why}: <Long text={note} max={400} />
        </p>
      )}
      {isUnderWay(story) && <BulkControls story={story} />}
      <div class="row">
        {failedAgain > 0 && (
          <a href={link("dead", { ...params, since: undefined, deadFromAt: startedAt })}>
            {texts.showDead(failedAgain)}
          </a>
        )}
        <Copy text={summaryOf(story, address)} label={texts.copy} />
        <a href={link("acts", { id: bulkID })}>{texts.record}</a>
      </div>
      {changes.length > 0 && (
        <details>
          <summary>{texts.changes}</summary>
          <ul class="act-list">
            {changes.map(change => (
              <li key={change}>
                <bdi>{change}</bdi>
              </li>
            ))}
          </ul>
        </details>
      )}
    </section>
  );
}
