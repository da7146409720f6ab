import { age } from "../kit/format";
import { Num } from "../kit/parts";
import { link } from "../kit/route";
import { overview as words } from "../texts/overview";
import { type Count, countsOf, type Overview } from "./next-steps";

/** How many messages are where; each leads to them. */
export function Counts({ messages }: Pick<Overview, "messages">) {
  return (
    <section class="stack" aria-labelledby="counts">
      <h2 id="counts">{words.messages}</h2>
      {!messages && <p class="notice">{words.notTold}</p>}
      <ul class="counts">
        {countsOf(messages).map(each => (
          <li key={each.name}>
            <Tile {...each} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Tile({ name, value, capped, oldestMs, page, params, urgent }: Count) {
  return (
    <a class={urgent && value ? "count urgent" : "count"} href={link(page, params)}>
      <span class="count-name">{name}</span>
      <span class="count-value">
        <Num value={value} capped={capped} unknown="?" />
      </span>
      <span class="count-hint">{oldestMs !== null && value ? words.oldest(age(oldestMs)) : "\u00a0"}</span>
    </a>
  );
}
