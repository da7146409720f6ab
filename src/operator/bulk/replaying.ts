import type { Bulk, BulkCursor, BulkPage, PageOutcome } from "../../message/bulk";
import type { Message, MessageHead, Note, Replay } from "../../message/message";
import { baseGroup, namesGroup } from "../../message/pattern";
import {
  hasPayload,
  isCopiedTo,
  isMeant,
  type Kept,
  type ReplayScope,
  recipientsOf,
  replayedOf,
  replayId
} from "../../message/replay";
import type { Store } from "../../stores/store";

/** Who takes an event. */
export interface Taking {
  groupsFor(event: string): string[];
  refresh(): Promise<void>;
}

export interface ReplayingParts {
  store: Store;
  subscriptions: Taking;
}

/** Rows that are looked at for one page at most: of small parts of each. */
const SCANNED = 2000;

/** Payloads that are in memory at a time, unless a single one is larger. */
const CHUNK_BYTES = 8 * 1024 * 1024;
const CHUNK = 100;

/**
 * `createdAt` is by the emitting node's clock and `at` mostly by the store's: one that is ahead of it by less than this
 * hides nothing.
 */
const CLOCKS_MS = 600_000;

/** Replays whose copies are looked for: so many humans do not begin. */
const REPLAYS_KNOWN = 1000;

/** Ids of copies that are looked for at a time. */
const COPIES_AT_ONCE = 2000;

/** Whoever has a message already, besides by its own row. */
type Copies = Map<string, MessageHead[]>;

/** What a replay is about, of its bulk act. */
export function replayScopeOf({ filter }: Pick<Bulk, "filter">): ReplayScope & { group: string } {
  const { group, event, fromAt, toAt, again } = filter as Record<string, string>;
  const [from, to] = [new Date(fromAt as string), new Date(toAt as string)];
  return { group: group as string, ...(event !== undefined && { event }), from, to, again: again === "true" };
}

/** The pages of a replay. The crash table is in docs/design.md, that of its pages in `bulk-run.ts`. */
export class Replaying {
  readonly #scope: ReplayScope & { group: string };
  #known = false;
  /** Where few of many are meant, more are looked at. */
  #limit = 0;

  constructor(
    private readonly parts: ReplayingParts,
    private readonly bulk: Pick<Bulk, "_id" | "filter" | "by" | "note">
  ) {
    this.#scope = replayScopeOf(bulk);
  }

  /** Up to `size` messages to be sent, of those behind the cursor; undefined = there is none any more. */
  async page(cursor: BulkCursor | undefined, size: number): Promise<BulkPage | undefined> {
    this.#limit = Math.min(SCANNED, Math.max(this.#limit, 2 * size));
    const { rows, more } = await this.look(cursor, this.#limit);
    const chosen: string[] = [];
    let last: Kept | undefined;
    let skipped = 0;
    let notReplayable = 0;
    for (const [row, what] of rows) {
      if (chosen.length === size) break;
      last = row;
      if (what === "sent") chosen.push(row._id);
      else if (what === "skipped") skipped++;
      else if (what === "not replayable") notReplayable++;
    }
    if (!last) return undefined;
    this.#limit = chosen.length < size ? this.#limit * 2 : 0;
    const isLast = !more && last === rows.at(-1)?.[0];
    return { ids: chosen, at: last.at, id: last._id, skipped, notReplayable, ...(isLast && { last: true }) };
  }

  /** The next rows in the order of their instants, and what is done with each; undefined = nothing. */
  async look(cursor: Pick<BulkCursor, "at" | "id"> | undefined, limit: number) {
    const { store } = this.parts;
    await this.#knowGroups();
    const from = new Date(Math.max(0, this.#scope.from.getTime() - CLOCKS_MS));
    const after = cursor && { at: cursor.at, id: cursor.id ?? "" };
    const { rows, next } = await store.bulkMessages.kept(from, limit, after);
    const copies = await this.#copiesOf(rows.filter(row => this.#judge(row) === "sent"));
    return { rows: rows.map(row => [row, this.#judge(row, copies)] as const), more: next !== undefined, next };
  }

  /** A group that has just come may not be known to this node yet. */
  async #knowGroups(): Promise<void> {
    if (!this.#known) await this.parts.subscriptions.refresh();
    this.#known = true;
  }

  #judge(row: Kept, copies?: Copies): "sent" | "skipped" | "not replayable" | undefined {
    const takers = isMeant(row, this.#scope) ? this.#takers(row.event) : [];
    if (!takers.length) return undefined;
    // A message that has come to its end meanwhile is met a second time.
    if (copies?.get(row._id)?.some(copy => this.#isOurs(copy))) return undefined;
    if (!this.#recipientsOf(row, takers, copies).length) return "skipped";
    return row.unreadable === undefined && hasPayload(row) ? "sent" : "not replayable";
  }

  #recipientsOf(row: Kept, takers: string[], copies?: Copies): string[] {
    const { again } = this.#scope;
    const others = again ? [] : (copies?.get(row._id) ?? []).filter(copy => !this.#isOurs(copy));
    return recipientsOf(row, takers, again).filter(taker => !others.some(copy => isCopiedTo(copy, taker)));
  }

  #isOurs({ replay }: Pick<MessageHead, "replay">): boolean {
    return replay?.bulk === this.bulk._id;
  }

  /**
   * What this replay, and others of the same time for the group, have made of them. Their ids say it, so no index is
   * needed for them; and a copy is kept for longer than its original, since it ends later.
   */
  async #copiesOf(rows: Pick<Kept, "_id" | "createdAt">[]): Promise<Copies> {
    const { store } = this.parts;
    const copies: Copies = new Map();
    if (!rows.length) return copies;
    const { group, again } = this.#scope;
    const others = again ? [] : await store.bulks.replays(REPLAYS_KNOWN);
    const replays = others
      .filter(({ _id }) => _id !== this.bulk._id)
      .map(other => ({ id: other._id, ...replayScopeOf(other) }))
      .filter(other => baseGroup(other.group) === baseGroup(group));
    const ids = rows.flatMap(({ _id, createdAt }) => [
      replayId(this.bulk._id, _id),
      ...replays.filter(({ from, to }) => createdAt >= from && createdAt < to).map(({ id }) => replayId(id, _id))
    ]);
    for (let i = 0; i < ids.length; i += COPIES_AT_ONCE)
      for (const copy of await store.messages.heads(ids.slice(i, i + COPIES_AT_ONCE))) {
        const of = copy.replay?.of ?? "";
        copies.set(of, [...(copies.get(of) ?? []), copy]);
      }
    return copies;
  }

  /** Makes their messages, each once, whoever has begun it. What the store does not answer for rejects. */
  async send(page: BulkPage): Promise<PageOutcome> {
    const { ids, at, id, skipped = 0, notReplayable = 0 } = page;
    const cursor = { at, left: [], ...(id !== undefined && { id }) };
    const outcome = { done: 0, lost: 0, refused: 0, skipped, notReplayable, cursor };
    const { messages } = this.parts.store;
    // The page may be that of a node that has died.
    await this.#knowGroups();
    const { rows } = ids.length ? await messages.list({ ids }, ids.length) : { rows: [] };
    outcome.notReplayable += ids.length - rows.length;
    // Another replay may have been quicker since they were chosen.
    const copies = await this.#copiesOf(rows);
    for (const chunk of chunksOf(rows)) {
      const originals = await messages.find(chunk);
      const whole = originals.filter(original => hasPayload({ ...original, bytes: original.body.length }));
      outcome.notReplayable += chunk.length - whole.length;
      const made = whole.flatMap(original => this.#made(original, copies));
      const stored = made.length ? await messages.insert(made) : [];
      for (const each of stored) {
        const ours = "stored" in each && (each.stored || each.existing.replay?.bulk === this.bulk._id);
        if (ours) outcome.done++;
        else outcome.refused++;
      }
      outcome.skipped += whole.length - made.length;
    }
    return outcome;
  }

  #made(original: Message, copies: Copies): Message[] {
    const { _id: bulk, by, note } = this.bulk;
    const { again } = this.#scope;
    const kept = { ...original, bytes: original.body.length };
    const groups = this.#recipientsOf(kept, this.#takers(original.event), copies);
    if (!groups.length) return [];
    const replay: Replay = { bulk, of: original._id, ...(again && { again }) };
    const at = this.parts.store.now();
    const told: Note = { at, by, act: "replay", bulk, groups, ...(note !== undefined && { note }) };
    return [replayedOf(original, replay, groups, told)];
  }

  #takers(event: string): string[] {
    return this.parts.subscriptions.groupsFor(event).filter(group => namesGroup(this.#scope.group, group));
  }
}

function chunksOf(rows: { _id: string; bytes: number }[]): string[][] {
  const chunks: string[][] = [];
  let bytes = Infinity;
  for (const row of rows) {
    const last = chunks.at(-1);
    bytes += row.bytes;
    if (last && bytes <= CHUNK_BYTES && last.length < CHUNK) last.push(row._id);
    else {
      chunks.push([row._id]);
      bytes = row.bytes;
    }
  }
  return chunks;
}
