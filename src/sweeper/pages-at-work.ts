import type { RescheduleRecord } from "../stores/store-records";

/** The broker takes the next page while the confirms of this one come. */
const AT_WORK = 2;

/**
 * Pages of one pass that are worked through, and the records of those that were. In a backlog these are written one page
 * later, beside the next one: most messages are consumed by then and need no record. When the process dies, the claims
 * of all of them run out.
 */
export class PagesAtWork {
  readonly #working: Promise<RescheduleRecord[]>[] = [];
  #owed: RescheduleRecord[] = [];
  #writing: Promise<void> = Promise.resolve();

  /** `late`: most of the messages are handled, probably. */
  constructor(private readonly write: (records: RescheduleRecord[], late: boolean) => Promise<void>) {}

  /** Resolves when there is room for another page. Rejects if an earlier page, or the write of its records, fails. */
  async begun(work: Promise<RescheduleRecord[]>): Promise<void> {
    work.catch(() => undefined);
    this.#working.push(work);
    if (this.#working.length < AT_WORK) return;
    const records = (await this.#working.shift()) ?? [];
    const due = this.#owed;
    // If the last write has failed, `end` writes all of them.
    this.#owed = [...due, ...records];
    await this.#writing;
    this.#owed = records;
    this.#writing = this.write(due, true);
    this.#writing.catch(() => undefined);
  }

  /** Works through what was begun and writes all records. Rejects with the first failure, after the others are done. */
  async end(): Promise<void> {
    const late = this.#owed.length > 0 || this.#working.length > 1;
    const ended = await Promise.allSettled(this.#working.splice(0));
    const records = [this.#owed.splice(0), ...ended.map(one => (one.status === "fulfilled" ? one.value : []))].flat();
    const written = await Promise.allSettled([this.#writing, this.write(records, late)]);
    this.#writing = Promise.resolve();
    for (const one of [...ended, ...written]) if (one.status === "rejected") throw one.reason;
  }
}
