/**
 * What settles a message to a queue outside of the library: `confirm`, the broker's confirm, if the queue's workers
 * send no receipts; `receipt`, the workers' receipt, if all of them can send one.
 */
export type Settle = "confirm" | "receipt";

export interface QueueTarget {
  queue: string;
  settle: Settle;
}

/** No group of a Moleculer service has a slash in its name. */
const PREFIX = { receipt: "queue/", confirm: "queue-confirm/" } as const satisfies Record<Settle, string>;

/** Separators of lists of groups, and what separates a group from a pattern. */
const RESERVED = /[%,:/#]/g;

/**
 * The pseudo group of a queue outside of the library. A message to the queue waits for this one group, and the queue is
 * known from the group's name, on every node and without an announcement.
 */
export function queueGroup({ queue, settle }: QueueTarget): string {
  return PREFIX[settle] + queue.replace(RESERVED, encodeURIComponent);
}

/** undefined = an ordinary group. */
export function queueTargetOf(group: string): QueueTarget | undefined {
  for (const settle of ["receipt", "confirm"] as const) {
    if (group.startsWith(PREFIX[settle]))
      return { queue: group.slice(PREFIX[settle].length).replace(/%(?:25|2C|3A|2F|23)/g, decodeURIComponent), settle };
  }
  return undefined;
}

export function settledByConfirm(group: string): boolean {
  return group.startsWith(PREFIX.confirm);
}

/** The queue of a message that goes to one queue and nowhere else. */
export function queueTargetOfMessage({ groups }: { groups?: string[] }): (QueueTarget & { group: string }) | undefined {
  const [group] = groups ?? [];
  const found = groups?.length === 1 && group !== undefined ? queueTargetOf(group) : undefined;
  return found && group !== undefined ? { ...found, group } : undefined;
}
