/** The pages, in the order of the navigation. `message` is reached by a link to one. */
export const PAGES = [
  ...(["overview", "dead", "keys", "messages", "message"] as const),
  ...(["groups", "servers", "parked", "acts"] as const)
] as const;

export type PageName = (typeof PAGES)[number];

export type Params = Readonly<Record<string, string>>;

export interface Route {
  page: PageName;
  params: Params;
  /** What stands in the address, and is no page of ours. */
  unknown?: string;
}

/** What may be left out. */
export type GivenParams = Readonly<Record<string, string | number | undefined>>;

/** Of `location.hash`. What is broken in it (a cut `%E4`) stays as it is: an address never ends the page. */
export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#?\/?/, "");
  const mark = text.indexOf("?");
  const name = mark === -1 ? text : text.slice(0, mark);
  const params = mark === -1 ? {} : Object.fromEntries(new URLSearchParams(text.slice(mark + 1)));
  if (name === "") return { page: "overview", params };
  const page = PAGES.find(each => each === name);
  return page ? { page, params } : { page: "overview", params: {}, unknown: name };
}

/** `#/dead?event=order.created`; what is empty is left out. */
export function hashOf(page: PageName, params: GivenParams = {}): string {
  const given = Object.entries(params).flatMap(([name, value]): [string, string][] =>
    value === undefined || value === "" ? [] : [[name, String(value)]]
  );
  const query = new URLSearchParams(given).toString();
  return `#/${page}${query && `?${query}`}`;
}
