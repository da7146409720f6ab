import type { ComponentChildren } from "preact";
import { kit } from "../texts/kit";
import { ErrorBox } from "./error-box";
import type { Poll } from "./poll";

interface PolledProps<T> {
  poll: Poll<T>;
  /** Beside another poll of the page, which tells the same. */
  quiet?: boolean;
  children: (data: T) => ComponentChildren;
}

/** What was read, or why there is nothing to show. What was read before stays when an answer fails. */
export function Polled<T>({ poll: { data, error, refresh }, quiet = false, children }: PolledProps<T>) {
  return (
    <>
      {error && !(quiet && data !== undefined) && <ErrorBox error={error} onRetry={() => void refresh()} />}
      {data !== undefined ? children(data) : !error && <p class="muted loading">{kit.loading}</p>}
    </>
  );
}
