import { HOUR_MS, HOURS_KEPT_MS, MINUTE_MS, MINUTES_KEPT_MS } from "../message/history";
import type { Clock } from "../platform/clock";
import type { Store } from "../stores/store";

/** Hours of nodes, or pages of old hours, in one run: what a node's holiday leaves is done with in a few. */
const STEPS = 200;
const PAGE = 1000;

/** A start has enough to do, and what is a day old can wait. */
const FIRST_MS = 5 * MINUTE_MS;

/** Minutes of the history → hours, and hours → nothing, each when it is old enough. Once an hour: an idle cluster asks little. */
export class HistoryFold {
  #dueAt: number;

  constructor(
    private readonly store: Store,
    private readonly clock: Clock
  ) {
    this.#dueAt = clock.monotonic() + FIRST_MS;
  }

  async run(goesOn: () => boolean): Promise<void> {
    const { store, clock } = this;
    if (clock.monotonic() < this.#dueAt) return;
    const now = store.now().getTime();
    const [folded, dropped] = [new Date(now - MINUTES_KEPT_MS), new Date(now - HOURS_KEPT_MS)];
    for (let step = 0; step < STEPS && goesOn(); step++) {
      if ((await store.history.fold(folded)) || (await store.history.drop(dropped, PAGE))) continue;
      this.#dueAt = clock.monotonic() + HOUR_MS;
      return;
    }
  }
}
