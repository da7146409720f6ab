import { setMaxListeners } from "node:events";

/** The end of a part, for any number of waits at once: of more than ten listeners Node would warn as of a leak. */
export function newEnd(): AbortController {
  const end = new AbortController();
  setMaxListeners(0, end.signal);
  return end;
}
