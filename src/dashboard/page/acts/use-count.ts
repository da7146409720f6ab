import { useCallback, useEffect, useState } from "preact/hooks";
import type { Act } from "../../api";
import { type ApiFailure, failureOf } from "../kit/api";
import { whyNot } from "../kit/session";

export interface Counted<T> {
  data?: T;
  error?: ApiFailure;
  /** Asks again. */
  again: () => void;
}

/**
 * The answer of a dry run, for whoever may do the act: asked when the dialog opens, and when `key` changes. Never by
 * itself: what was read is what is confirmed.
 */
export function useCount<T>(act: Act, ask: () => Promise<T>, key: string): Counted<T> {
  const may = whyNot(act) === undefined;
  const [round, setRound] = useState(0);
  const [state, setState] = useState<{ key?: string; data?: T; error?: ApiFailure }>({});
  useEffect(() => {
    let isGone = false;
    setState({});
    if (!may) return;
    ask().then(
      data => isGone || setState({ key, data }),
      error => isGone || setState({ key, error: failureOf(error) })
    );
    return () => {
      isGone = true;
    };
  }, [key, round, may]);
  const again = useCallback(() => setRound(n => n + 1), []);
  const { data, error } = state.key === key ? state : {};
  return { ...(data !== undefined && { data }), ...(error && { error }), again };
}
