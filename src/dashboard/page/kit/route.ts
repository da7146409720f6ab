import { signal } from "@preact/signals";
import { type GivenParams, hashOf, type PageName, parseRoute, type Route } from "./route-text";

/** Where the operator is: all of it stands in the address, so that it can be sent to a colleague. */
export const route = signal<Route>(parseRoute(location.hash));

/** Also after the back button. Called once. */
export function followAddress(): void {
  addEventListener("hashchange", () => {
    route.value = parseRoute(location.hash);
  });
}

export const useRoute = (): Route => route.value;

/** For `href`. */
export const link = hashOf;

interface GoOptions {
  /** The back button leads past the address that is left: what was typed letter by letter, a dialog that was closed. */
  replace?: boolean;
}

export function go(page: PageName, params?: GivenParams, { replace = false }: GoOptions = {}): void {
  const hash = hashOf(page, params);
  if (hash === location.hash) return;
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  // Not every change of the address is told by an event; and a page reads its params right after this call.
  route.value = parseRoute(hash);
}

/** Changes some params of the page that is shown; undefined takes one out. */
export function setParams(patch: GivenParams, options?: GoOptions): void {
  const { page, params } = route.value;
  go(page, { ...params, ...patch }, options);
}
