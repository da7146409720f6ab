import { ReliableRetryableError } from "../errors";
import type { HistoryRecord } from "../message/history";
import type { Clock } from "../platform/clock";
import type { HistorySink } from "../telemetry/history";

/** What has announced a group, and can do so again. */
interface Announcing {
  /** False = the broker has not confirmed it. */
  tellHistory(record: HistoryRecord): Promise<boolean>;
}

/** A node that stops tells its last minute after its consumers have stopped: by then their queues are still theirs. */
const LEFT_MS = 60_000;

/**
 * The history of a node without a store goes along with an announcement of one of its groups, and the tracker writes it
 * down. A node without a group has nobody to tell by, and keeps no history.
 */
export class AnnouncedHistory implements HistorySink {
  readonly #announcing = new Set<Announcing>();
  #last: { announcing: Announcing; leftAt: number } | undefined;

  constructor(private readonly clock: Clock) {}

  /** Its group is announced and its queue there: before that an announcement would be parked. */
  enter(announcing: Announcing): void {
    this.#announcing.add(announcing);
  }

  leave(announcing: Announcing): void {
    if (this.#announcing.delete(announcing)) this.#last = { announcing, leftAt: this.clock.monotonic() };
  }

  async add(records: HistoryRecord[]): Promise<boolean[]> {
    const [announcing = this.#justLeft()] = this.#announcing;
    for (const record of announcing ? records : [])
      if (!(await announcing?.tellHistory(record)))
        throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", "The announcement was not confirmed.");
    return records.map(() => announcing !== undefined);
  }

  #justLeft(): Announcing | undefined {
    const { announcing, leftAt = -Infinity } = this.#last ?? {};
    return this.clock.monotonic() - leftAt < LEFT_MS ? announcing : undefined;
  }
}
