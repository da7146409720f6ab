/**
 * The statuses of a message and the legal transitions. Pure; the store's filters repeat them: most in
 * `stores/documents/messages.ts` and `consumed-or-dead.ts`, an operator's in `operations.ts`.
 *
 * `dead` says that at least one group needs a human. The others go on: it is due for the sweeper while one is waited
 * for. If the groups that have failed answer late, or a human resolves them, it is `pending` or `published` again.
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
 *
 *   emit with `sendAt` ──▶ scheduled ── its instant has come ──▶ pending
 *                              └─────── called off ────────────▶ cancelled (final, with a note)
 */
export const STATUS = {
  /** Entered by an emit with `sendAt` or `delayMs`. Left when it is due and a sweep begins to send it, or by a cancel. */
  scheduled: "scheduled",
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
  /**
   * At least one group has failed for good. Stays until an operator retries, resolves or discards it, or the group
   * answers late. Groups that have attempts left are delivered to as in `pending` and `published`.
   */
  dead: "dead",
  /** Closed by an operator, with a note. Final; pruned after `retainMs`. */
  resolved: "resolved",
  /**
   * The business write of an intended message did not happen. Final; pruned after `retainMs`. Its id is free: emitted
   * again, it is a new message.
   */
  withdrawn: "withdrawn",
  /** A scheduled message that was cancelled before it was sent, with a note. Final; pruned after `retainMs`. */
  cancelled: "cancelled"
} as const;

export type Status = (typeof STATUS)[keyof typeof STATUS];

export const STATUSES = Object.values(STATUS) as readonly Status[];

/** `discarded` is no status: the row is deleted and an audit record stays. */
export const TRANSITIONS: Readonly<Record<Status, readonly (Status | "discarded")[]>> = {
  // Resolved: the groups that it names were forgotten. Dead: the store refuses its change to pending.
  scheduled: ["pending", "cancelled", "resolved", "dead"],
  intended: ["pending", "published", "withdrawn", "dead"],
  pending: ["published", "consumed", "dead", "resolved"],
  published: ["pending", "consumed", "dead", "resolved"],
  dead: ["pending", "published", "consumed", "resolved", "discarded"],
  consumed: [],
  resolved: [],
  withdrawn: [],
  cancelled: []
};

/** Statuses that may lead to `to`, for the filter of a conditional write. */
export function sourcesOf(to: Status | "discarded"): Status[] {
  return STATUSES.filter(from => TRANSITIONS[from].includes(to));
}

/** Nothing of it was sent, so that no answer to it can be true. */
export function isUnsent(status: Status): boolean {
  return status === STATUS.scheduled || status === STATUS.cancelled;
}

/** It was sent, or may have been, and is not final; of a `dead` one other groups are still waited for. */
export function isOpen({ status, waiting }: { status: Status; waiting: string[] }): boolean {
  return !isFinal(status) && !isUnsent(status) && (status !== STATUS.dead || waiting.length > 0);
}

/** Of a message that no group has failed for good (any more). */
export function openStatusOf({ publishedAt }: { publishedAt?: unknown }): Status {
  return publishedAt === undefined ? STATUS.pending : STATUS.published;
}

export function isFinal(status: Status): boolean {
  return TRANSITIONS[status].length === 0;
}
