import type { ComponentChildren } from "preact";
import { kit } from "../texts/kit";
import { ErrorBox } from "./error-box";
import type { Poll } from "./poll";

interface PolledProps<T> {
  poll: Poll<T>;
  children: (data: T) => ComponentChildren;
}

/** What was read, or why there is nothing to show. What was read before stays when an answer fails. */
export function Polled<T>({ poll: { data, error, refresh }, children }: PolledProps<T>) {
  return (
    <>
      {error && <ErrorBox error={error} onRetry={() => void refresh()} />}
      {data !== undefined ? children(data) : !error && <p class="muted loading">{kit.loading}</p>}
    </>
  );
}
