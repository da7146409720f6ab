import type { Answer } from "../kit/api-types";

export const SPANS = ["hour", "day"] as const;

export type Span = (typeof SPANS)[number];

const MINUTE_MS = 60_000;

/** How long it is, and in what steps: some 60 to 150 points, which a chart of a few hundred pixels can show. */
const MEANT: Record<Span, { ms: number; stepMs: number }> = {
  hour: { ms: 60 * MINUTE_MS, stepMs: MINUTE_MS },
  day: { ms: 24 * 60 * MINUTE_MS, stepMs: 10 * MINUTE_MS }
};

export const spanOf = (text: string | undefined): Span => SPANS.find(each => each === text) ?? "hour";

/**
 * What `history` is asked. The same for a whole minute, so that it is not asked anew at each look. Less than 24 h, for
 * older minutes are folded to hours: a step is rounded down, and a minute passes on the way.
 */
export function askedOf(span: Span, now: number): { fromAt: number; toAt: number; stepMs: number } {
  const { ms, stepMs } = MEANT[span];
  const toAt = Math.floor(now / MINUTE_MS) * MINUTE_MS;
  const first = Math.ceil((toAt - ms) / stepMs + 1) * stepMs;
  return { fromAt: first, toAt, stepMs };
}

/** Without the last step, if that is not over: it would look like a collapse. */
export function wholeSteps({ steps, toAt, stepMs }: Answer<"history">): Answer<"history">["steps"] {
  const last = steps.at(-1);
  return last && Date.parse(last.at) + stepMs > Date.parse(toAt) ? steps.slice(0, -1) : steps;
}
