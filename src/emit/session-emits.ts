import type { Message } from "../message/message";
import type { Store } from "../stores/store";

/** Rows that are read at a time: each may have a large payload. */
const PAGE = 100;
/** Of a session that does not end; the sweeper takes what is more. */
const MAX_IDS = 10_000;

/** Messages that were stored in their callers' sessions. One listener and one look per session, not per message. */
export class SessionEmits {
  readonly #ids = new WeakMap<object, string[]>();

  constructor(
    private readonly store: Store,
    /** Called with the rows that are there once the session has ended. */
    private readonly found: (rows: Message[]) => void,
    private readonly track: (work: Promise<void>) => void
  ) {}

  /**
   * Committed: the row is there at the session's end. Aborted: it is not. The driver has no hook for a commit, only for
   * that end.
   */
  add(session: object, id: string): void {
    const ids = this.#ids.get(session);
    if (ids) {
      if (ids.length < MAX_IDS) ids.push(id);
      return;
    }
    const mine = [id];
    this.#ids.set(session, mine);
    this.store.messages.onSessionEnd(session, () => {
      this.#ids.delete(session);
      this.track(this.#look(mine));
    });
  }

  async #look(ids: string[]): Promise<void> {
    for (let at = 0; at < ids.length; at += PAGE) this.found(await this.store.messages.find(ids.slice(at, at + PAGE)));
  }
}
