/** What a pass did, as `reliable.sweep` returns it. */
export interface SweepCounts {
  pages: number;
  /** Due messages that were claimed. */
  claimed: number;
  /** Publishes by outcome. */
  confirmed: number;
  returned: number;
  nacked: number;
  refused: number;
  unknown: number;
  /** Groups left alone: their queue has a backlog, or no consumer, or does not exist. */
  waiting: number;
  /** Attempts that ended in silence. */
  silent: number;
  /**
   * Messages that this sweeper had claimed and that changed before it recorded its work: handled, or taken over by
   * another sweeper.
   */
  lost: number;
  /** Why the pass ended early. */
  stopped?: "broker not ready" | "lease lost" | "overloaded";
}

export function newCounts(): SweepCounts {
  const outcomes = { confirmed: 0, returned: 0, nacked: 0, refused: 0, unknown: 0 };
  return { pages: 0, claimed: 0, ...outcomes, waiting: 0, silent: 0, lost: 0 };
}
