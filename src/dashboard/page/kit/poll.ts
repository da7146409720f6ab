import { computed, signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Answer, type ApiFailure, api, failureOf, type ReadName, type ReadParams } from "./api";
import { readSession, session } from "./session";

/** By the operator: nothing moves below the eye. */
export const pausedByUser = signal(false);

const visible = signal(document.visibilityState !== "hidden");
document.addEventListener("visibilitychange", () => {
  visible.value = document.visibilityState !== "hidden";
});

export const polling = computed(() => visible.value && !pausedByUser.value);

/** How one poll of the page that is shown goes. */
interface Course {
  every: number;
  /** Of the last answer, in ms since 1970. */
  at?: number;
  /** Since the answer before the first failure: what is shown is of then. */
  staleSince?: number;
}

const courses = signal<ReadonlyMap<symbol, Course>>(new Map());

function note(key: symbol, course: Course | undefined): void {
  const next = new Map(courses.value);
  if (course) next.set(key, course);
  else next.delete(key);
  courses.value = next;
}

export type PollState =
  | { state: "waiting" }
  | { state: "paused"; at: number | undefined }
  | { state: "stale"; at: number }
  | { state: "updated"; at: number };

/** Of all polls together: as old as the oldest of the most frequent ones. */
export const pollState = computed<PollState>(() => {
  const all = [...courses.value.values()];
  const often = Math.min(...all.map(({ every }) => every));
  const stale = all.flatMap(({ staleSince }) => (staleSince === undefined ? [] : [staleSince]));
  const answered = all.flatMap(({ at, every }) => (at === undefined || every > often ? [] : [at]));
  const at = answered.length ? Math.min(...answered) : undefined;
  if (stale.length) return { state: "stale", at: Math.min(...stale) };
  if (!polling.value) return { state: "paused", at };
  return at === undefined ? { state: "waiting" } : { state: "updated", at };
});

const acts = signal(0);

/**
 * After an act: what it has changed is seen at once, also while updates are paused. By the next drawing: where the act has
 * led to another page, what it has deleted is not asked for again.
 */
export function refreshAll(): void {
  acts.value++;
}

export interface PollOptions {
  /** Not asked at all: what it would show is not open. */
  off?: boolean;
  /** While new params load, what the old ones gave stays: for the pages of a list. */
  keep?: boolean;
  everyMs?: number;
}

export interface Poll<T> {
  data?: T;
  /** Of the last attempt; with `data`, that is of before. */
  error?: ApiFailure;
  loading: boolean;
  /** When `data` came. */
  at?: number;
  refresh(): Promise<void>;
}

interface Running {
  refresh(): Promise<void>;
  /** Reads, if it does not do so already and is not to do so soon. */
  wake(): void;
}

const DEFAULT_MS = 5000;

/** Reads again and again while the page is seen; what was read stays when an answer fails. */
export function usePoll<N extends ReadName>(
  name: N,
  params: ReadParams<N>,
  { off = false, keep = false, everyMs }: PollOptions = {}
): Poll<Answer<N>> {
  const asked = JSON.stringify([name, params]);
  const every = everyMs ?? session.value?.pollMs ?? DEFAULT_MS;
  const going = polling.value;
  const act = acts.value;
  const [shown, setShown] = useState<{ asked: string; data?: Answer<N>; error?: ApiFailure; at?: number }>({ asked });
  const running = useRef<Running>({ refresh: async () => undefined, wake: () => undefined });
  const refreshedAfter = useRef(act);
  const isGoing = useRef(going);
  isGoing.current = going;

  // `asked` is the name and the params.
  useEffect(() => {
    if (off) return;
    const key = Symbol(name);
    const gone = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let course: Course = { every };
    let inHand: Promise<void> | undefined;
    note(key, course);

    const read = async () => {
      try {
        const data = await api.read(name, params, gone.signal);
        course = { every, at: Date.now() };
        setShown({ asked, data, at: Date.now() });
      } catch (thrown) {
        if (gone.signal.aborted) return;
        const error = failureOf(thrown);
        if (error.status === 401 || error.status === 403) void readSession();
        course = { ...course, staleSince: course.staleSince ?? course.at ?? Date.now() };
        setShown(before => (before.asked === asked || keep ? { ...before, asked, error } : { asked, error }));
      }
      note(key, course);
    };
    const start = () => {
      clearTimeout(timer);
      timer = undefined;
      inHand = read().finally(() => {
        inHand = undefined;
        // What has failed is asked for as often as anything: else all would seem stale long after it is back.
        const next = course.staleSince === undefined ? every : Math.min(every, DEFAULT_MS);
        if (!gone.signal.aborted) timer = setTimeout(wake, next);
      });
    };
    const refresh = async () => {
      // What is asked already may have been answered before the act that calls for a refresh.
      while (inHand) await inHand;
      if (gone.signal.aborted) return;
      start();
      await inHand;
    };
    const wake = () => {
      timer = undefined;
      if (isGoing.current && !inHand) start();
    };
    running.current = {
      refresh,
      wake: () => {
        if (!timer && !inHand) wake();
      }
    };
    start();
    return () => {
      gone.abort();
      clearTimeout(timer);
      note(key, undefined);
    };
  }, [asked, off, every]);

  useEffect(() => {
    if (going && !off) running.current.wake();
  }, [going, off]);

  useEffect(() => {
    if (refreshedAfter.current === act) return;
    refreshedAfter.current = act;
    void running.current.refresh();
  }, [act]);

  const isOwn = shown.asked === asked;
  const { data, error, at } = isOwn || keep ? shown : ({} as Partial<typeof shown>);
  return {
    ...(data !== undefined && { data }),
    ...(error && { error }),
    ...(at !== undefined && { at }),
    loading: !off && (!isOwn || (data === undefined && !error)),
    refresh: () => running.current.refresh()
  };
}
