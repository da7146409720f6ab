import type { ComponentType } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Footer } from "./footer";
import { Header } from "./header";
import { ErrorBox } from "./kit/error-box";
import { useRoute } from "./kit/route";
import type { PageName } from "./kit/route-text";
import { readSession, session, sessionFailure } from "./kit/session";
import { Acts } from "./pages/acts";
import { Dead } from "./pages/dead";
import { Groups } from "./pages/groups";
import { Keys } from "./pages/keys";
import { MessagePage } from "./pages/message";
import { Messages } from "./pages/messages";
import { Overview } from "./pages/overview";
import { Parked } from "./pages/parked";
import { Servers } from "./pages/servers";
import { kit } from "./texts/kit";
import { shell } from "./texts/shell";

const VIEWS: Record<PageName, ComponentType> = {
  overview: Overview,
  dead: Dead,
  keys: Keys,
  messages: Messages,
  message: MessagePage,
  groups: Groups,
  servers: Servers,
  parked: Parked,
  acts: Acts
};

/** The frame, and the page that the address names. */
export function App() {
  const { page, params, unknown } = useRoute();
  const content = useRef<HTMLElement>(null);
  const first = useRef(true);
  const id = page === "message" ? params["id"] : undefined;

  // A link to another page leads the eyes and the focus to its start, as a new document would.
  useEffect(() => {
    document.title = `${shell.pages[page]}${id ? ` ${id.slice(0, 40)}` : ""} · ${shell.product}`;
    if (first.current) first.current = false;
    else {
      scrollTo(0, 0);
      content.current?.querySelector("h1")?.focus();
    }
  }, [page, id]);

  const View = VIEWS[page];
  return (
    <>
      <button type="button" class="skip" onClick={() => content.current?.focus()}>
        {shell.skip}
      </button>
      <Header page={page} />
      <main ref={content} tabIndex={-1}>
        {unknown !== undefined && <p class="notice">{shell.unknownPage(unknown)}</p>}
        {session.value ? <View key={page} /> : <NotYet page={page} />}
      </main>
      <Footer />
    </>
  );
}

/** Before it is known who looks, and at what. */
function NotYet({ page }: { page: PageName }) {
  const failure = sessionFailure.value;
  return (
    <>
      <h1 tabIndex={-1}>{shell.pages[page]}</h1>
      {failure ? (
        <ErrorBox error={failure} onRetry={() => void readSession()} />
      ) : (
        <p class="muted loading">{kit.loading}</p>
      )}
    </>
  );
}
