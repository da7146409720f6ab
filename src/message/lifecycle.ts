/**
 * The statuses of a message and the legal transitions. Pure; the store's filters repeat them: most in
 * `stores/documents/messages.ts` and `consumed-or-dead.ts`, an operator's in `operations.ts`.
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
  /** Entered by an emit with `commit`. Left when it is known whether the business write happened. */
  intended: "intended",
  /**
   * Stored, not yet confirmed and routed. Entered by an emit and by an operator's retry; the publisher or a sweep takes
   * it further.
   */
  pending: "pending",
  /**
   * The broker has confirmed and routed it. Its receipts are awaited until `dueAt`; after that it is due for the
   * sweeper.
   */
  published: "published",
  /** Every expected group has handled it. Final; pruned after `retainMs`. A late receipt leads here from `dead` too. */
  consumed: "consumed",
  /** No group that still owes a receipt has attempts left. Stays until an operator retries, resolves or discards it. */
  dead: "dead",
  /** Closed by an operator, with a note. Final; pruned after `retainMs`. */
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

/** Statuses that may lead to `to`, for the filter of a conditional write. */
export function sourcesOf(to: Status | "discarded"): Status[] {
  return STATUSES.filter(from => TRANSITIONS[from].includes(to));
}

/** The sweeper may have to act on it: it is neither final nor `dead`, where only a human may. */
export function isOpen({ status }: { status: Status }): boolean {
  return !isFinal(status) && status !== STATUS.dead;
}

export function isFinal(status: Status): boolean {
  return TRANSITIONS[status].length === 0;
}
