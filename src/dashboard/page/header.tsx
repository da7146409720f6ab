import { useEffect, useState } from "preact/hooks";
import { clock } from "./kit/format";
import { Badge } from "./kit/parts";
import { type PollState, pausedByUser, pollState } from "./kit/poll";
import { link } from "./kit/route";
import { PAGES, type PageName } from "./kit/route-text";
import { session } from "./kit/session";
import { shell } from "./texts/shell";

/** One message has its place in the navigation only while it is shown: without it there is nothing to show. */
const linksOf = (page: PageName) => PAGES.filter(name => name !== "message" || name === page);

/** Which cluster this is, who looks, how fresh it is, and the way to the other pages. */
export function Header({ page }: { page: PageName }) {
  const known = session.value;
  return (
    <header class="top">
      <div class="top-line">
        <p class="product">
          <a href={link("overview")}>{shell.product}</a>
        </p>
        {known?.badge && (
          <span class={`environment ${known.badge.tone ?? "blue"}`}>
            <bdi>{known.badge.text}</bdi>
          </span>
        )}
        {known && (
          <p class="who">
            <span>
              <span class="muted">{shell.namespace}</span> <bdi class="id">{known.namespace || shell.noNamespace}</bdi>
            </span>
            <bdi>{known.user === null ? shell.anonymous : shell.user(known.user)}</bdi>
            {!known.acts.length && (
              <span>
                <Badge tone="watch">{shell.readOnly}</Badge> <span class="muted note">{shell.readOnlyNote}</span>
              </span>
            )}
          </p>
        )}
        <Freshness />
      </div>
      <nav aria-label={shell.nav}>
        <ul>
          {linksOf(page).map(name => (
            <li key={name}>
              <a
                href={name === "message" ? location.hash : link(name)}
                aria-current={name === page ? "page" : undefined}
              >
                {shell.pages[name]}
              </a>
            </li>
          ))}
        </ul>
      </nav>
    </header>
  );
}

function Freshness() {
  const state = pollState.value;
  return (
    <div class={`freshness ${state.state}`}>
      <span>{textOf(state)}</span>
      <Announced state={state} />
      <button
        type="button"
        class="button small"
        onClick={() => {
          pausedByUser.value = !pausedByUser.value;
        }}
      >
        {pausedByUser.value ? shell.resume : shell.pause}
      </button>
    </div>
  );
}

/** For screen readers: only that it has become stale, or fresh again; not every five seconds the time. */
function Announced({ state }: { state: PollState }) {
  const [said, setSaid] = useState("");
  const stale = state.state === "stale" ? state.at : undefined;
  useEffect(() => {
    setSaid(before => (stale !== undefined ? shell.noAnswerSince(clock(stale)) : before && shell.answersAgain));
  }, [stale]);
  return (
    <span class="sr-only" role="status">
      {said}
    </span>
  );
}

function textOf(state: PollState): string {
  switch (state.state) {
    case "waiting":
      return shell.waiting;
    case "stale":
      return `${shell.stale} ${clock(state.at)}`;
    case "paused":
      return state.at === undefined ? shell.paused : `${shell.paused} · ${shell.of} ${clock(state.at)}`;
    case "updated":
      return `${shell.updated} ${clock(state.at)}`;
  }
}
