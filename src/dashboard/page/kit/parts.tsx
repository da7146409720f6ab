import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { kit } from "../texts/kit";
import { age, bytes, count, dateTime, utc } from "./format";
import { cutText } from "./long-text";

export type Tone = "ok" | "watch" | "act" | "info" | "plain";

/** The tone is never said by its colour alone: `children` are words. */
export function Badge({ tone = "plain", children }: { tone?: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

/** In the time of the browser; a pointer on it shows UTC, as logs have it. */
export function Time({ at }: { at: string | number | null | undefined }) {
  if (at === null || at === undefined) return <span class="muted">{kit.none}</span>;
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return <bdi>{String(at)}</bdi>;
  return (
    <time class="time" dateTime={date.toISOString()} title={utc(date)}>
      {dateTime(date)}
    </time>
  );
}

/** How long ago that was, and when. */
export function Ago({ at }: { at: string | null | undefined }) {
  if (!at) return <span class="muted">{kit.none}</span>;
  return (
    <time class="time" dateTime={at} title={`${dateTime(at)} (${utc(at)})`}>
      {kit.ago(age(Date.now() - new Date(at).getTime()))}
    </time>
  );
}

interface NumProps {
  value: number | null | undefined;
  /** There are more. */
  capped?: boolean | undefined;
  /** What stands there where nobody knows. */
  unknown?: string;
}

export function Num({ value, capped = false, unknown = kit.none }: NumProps) {
  if (value === null || value === undefined) return <span class="muted">{unknown}</span>;
  return <span class={value === 0 ? "num zero" : "num"}>{count(value, capped)}</span>;
}

/** In place of rows, with what that means. */
export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** An id or name of a stranger: breaks anywhere, and its direction of writing does not leak. */
export function Id({ text }: { text: string }) {
  return <bdi class="id">{text}</bdi>;
}

/** Of strangers, maybe of megabytes: the page stays quick, and the rest is a click away. */
export function Long({ text, max = 2000 }: { text: string; max?: number }) {
  const [limit, setLimit] = useState(max);
  const { shown, left } = cutText(text, limit);
  return (
    <>
      <bdi class="long">{left ? `${shown}…` : shown}</bdi>
      {left > 0 && (
        <button type="button" class="button small" onClick={() => setLimit(limit + MORE)}>
          {kit.showMore(bytes(left))}
        </button>
      )}
      {limit > max && (
        <button type="button" class="button small" onClick={() => setLimit(max)}>
          {kit.showLess}
        </button>
      )}
    </>
  );
}

/** With one click. A browser lays out so much of one text at once. */
const MORE = 50_000;

const COPIED_MS = 2000;

/** Works without https too, where a browser gives a page no clipboard. */
export function Copy({ text, label = kit.copy }: { text: string; label?: string }) {
  const [said, setSaid] = useState<string>();
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async (button: HTMLElement) => {
    setSaid((await copyText(text, button)) ? kit.copied : kit.notCopied);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setSaid(undefined), COPIED_MS);
  };
  return (
    <span class="copy">
      <button type="button" class="button small" onClick={event => void copy(event.currentTarget)}>
        {label}
      </button>
      <span role="status" class="muted">
        {said}
      </span>
    </span>
  );
}

async function copyText(text: string, beside: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Within the button's own dialog, if it is in one: nothing outside of that can have the focus.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "off-screen";
    area.ariaHidden = "true";
    beside.after(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    beside.focus();
    return copied;
  }
}

interface PageHeadProps {
  title: ComponentChildren;
  /** Buttons of the page. */
  children?: ComponentChildren;
}

/** The one `h1`; it takes the focus when a link of the navigation has led here. */
export function PageHead({ title, children }: PageHeadProps) {
  return (
    <div class="page-head">
      <h1 tabIndex={-1}>{title}</h1>
      {children && <div class="row">{children}</div>}
    </div>
  );
}
