import { setMaxListeners } from "node:events";

/** The end of a part. Any number of waits may listen to it: above ten listeners Node.js would warn of a leak. */
export function newEnd(): AbortController {
  const end = new AbortController();
  setMaxListeners(0, end.signal);
  return end;
}
