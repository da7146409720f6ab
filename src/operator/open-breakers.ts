/** The part of a consumer that has a breaker. */
export interface Guarded {
  readonly spec: { group: string; pattern: string };
  readonly breaker: { readonly opened: { since: Date; error: string } | undefined } | undefined;
}

/** A group's consumers of this node take one message at a time. */
export interface OpenBreaker {
  group: string;
  pattern: string;
  since: Date;
  /** The failure by which it opened. */
  error: string;
}

/** Those of this node, the oldest first. Two services of one group have one each, and are one entry. */
export function openBreakers(consumers: Iterable<Guarded>): OpenBreaker[] {
  const open = [...consumers]
    .flatMap(({ spec: { group, pattern }, breaker }) => (breaker?.opened ? { group, pattern, ...breaker.opened } : []))
    .toSorted((a, b) => a.since.getTime() - b.since.getTime());
  return open.filter(
    (one, i) => open.findIndex(each => each.group === one.group && each.pattern === one.pattern) === i
  );
}
