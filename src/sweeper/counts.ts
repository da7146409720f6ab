/** What a pass did, as `reliable.sweep` returns it. */
export interface SweepCounts {
  pages: number;
  /** Due messages that were claimed. */
  claimed: number;
  /** Publishes by outcome. */
  confirmed: number;
  returned: number;
  nacked: number;
  unknown: number;
  /** Groups left alone: their queue has a backlog, or no consumer. */
  waiting: number;
  /** Attempts that ended in silence. */
  silent: number;
  /**
   * Messages that this sweeper had claimed and that changed before it recorded its work: handled, or taken over by
   * another sweeper.
   */
  lost: number;
  /** Why the pass ended early. */
  stopped?: "broker not ready" | "lease lost";
}

export function newCounts(): SweepCounts {
  return { pages: 0, claimed: 0, confirmed: 0, returned: 0, nacked: 0, unknown: 0, waiting: 0, silent: 0, lost: 0 };
}
