/**
 * The statuses of a message and the legal transitions. Pure; the store's filters repeat them.
 *
 *   emit with `commit`                    emit
 *         │                                │
 *         ▼     business write happened    ▼     confirmed and routed          last receipt
 *     intended ──────────────────────▶ pending ─────────────────────▶ published ───────────▶ consumed   (final)
 *         │                              ▲ │ ▲                           │                      ▲
 *         │ it did not                   │ │ └───── sweep: due ──────────┤                      │ late receipt
 *         ▼                              │ │                             ▼                      │
 *     withdrawn (final)                  │ └─ budget spent, refused ──▶ dead ───────────────────┘
 *                                        └────────── retry ──────────────┤
 *                                                                        ├─▶ resolved (final, with a note)
 *                                                                        └─▶ discarded (removed, with an audit record)
 */
export const STATUS = {
  /** Entered by an emit with `commit`, left when the business write is known to have happened or not. */
  intended: "intended",
  /**
   * Stored, not yet confirmed and routed. Entered by emit and by a human's retry; the publisher or a sweep leads on.
   */
  pending: "pending",
  /** The broker has confirmed and routed it; receipts are awaited until `dueAt`, then it is the sweeper's business. */
  published: "published",
  /** Every expected group has handled it. Final; pruned after `retainMs`. A late receipt leads here from `dead` too. */
  consumed: "consumed",
  /** No group that still owes a receipt has attempts left. Stays until a human retries, resolves or discards it. */
  dead: "dead",
  /** Closed by a human, with a note. Final; pruned after `retainMs`. */
  resolved: "resolved",
  /**
   * The business write of an intended message did not happen. Final; pruned after `retainMs`. Its id is free: emitted
   * again, it is a new message.
   */
  withdrawn: "withdrawn"
} as const;

export type Status = (typeof STATUS)[keyof typeof STATUS];

export const STATUSES = Object.values(STATUS) as readonly Status[];

/** `discarded` is no status: the row is deleted and an audit record stays. */
export const TRANSITIONS: Readonly<Record<Status, readonly (Status | "discarded")[]>> = {
  intended: ["pending", "published", "withdrawn", "dead"],
  pending: ["published", "consumed", "dead", "resolved"],
  published: ["pending", "consumed", "dead", "resolved"],
  dead: ["pending", "consumed", "resolved", "discarded"],
  consumed: [],
  resolved: [],
  withdrawn: []
};

/** Statuses that may lead to `to`: what a conditional write puts into its filter. */
export function sourcesOf(to: Status | "discarded"): Status[] {
  return STATUSES.filter(from => TRANSITIONS[from].includes(to));
}

export function isFinal(status: Status): boolean {
  return TRANSITIONS[status].length === 0;
}
