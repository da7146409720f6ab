/** What a pass did, as `reliable.sweep` returns it. */
export interface SweepCounts {
  pages: number;
  /** Due messages taken. */
  claimed: number;
  /** Publishes by outcome. */
  confirmed: number;
  returned: number;
  nacked: number;
  unknown: number;
  /** Groups left alone: backlog in their queue, or nobody home. */
  waiting: number;
  /** Attempts that ended in silence. */
  silent: number;
  /**
   * Messages that were no longer this sweeper's when it wrote down what it did: handled meanwhile, or taken over by
   * another one.
   */
  lost: number;
  /** Why the pass ended early. */
  stopped?: "broker not ready" | "lease lost";
}

export function newCounts(): SweepCounts {
  return { pages: 0, claimed: 0, confirmed: 0, returned: 0, nacked: 0, unknown: 0, waiting: 0, silent: 0, lost: 0 };
}
