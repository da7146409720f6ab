import { Badge, Time } from "../kit/parts";
import { link } from "../kit/route";
import { overview as words } from "../texts/overview";
import { nextSteps, type Overview } from "./next-steps";

/** The sentence first: whoever is woken reads no further if there is nothing to do. */
export function Verdict({ data }: { data: Overview }) {
  const { level, sentence, also, at, nodeID } = data;
  const steps = nextSteps(data);
  return (
    <section class={`verdict ${level}`} aria-label={words.verdict}>
      <p class="sentence">
        <Badge tone={level}>{words.levels[level]}</Badge> <bdi>{sentence}</bdi>
      </p>
      {also.length > 0 && (
        <ul class="also" aria-label={words.also}>
          {also.map(text => (
            <li key={text}>
              <bdi>{text}</bdi>
            </li>
          ))}
        </ul>
      )}
      <div class="row">
        {steps.map(({ text, page, params }, index) => (
          <a key={text} class={index === 0 && level === "act" ? "button primary" : "button"} href={link(page, params)}>
            {text}
          </a>
        ))}
        <span class="muted note">
          {words.asOf} <Time at={at} />, {words.toldBy(nodeID)}
        </span>
      </div>
    </section>
  );
}
