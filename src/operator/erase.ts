import { ReliableError } from "../errors";
import { keyFault } from "../message/keys";
import { STATUS, type Status } from "../message/lifecycle";
import type { Note } from "../message/message";
import type { Store } from "../stores/store";
import type { Keyed } from "../stores/store-records";
import type { Actor } from "./actor";
import { type AuditParts, audited, needNote, recordOf } from "./audit";

export interface EraseParams {
  /** A message key, as `name=value`. */
  key: string;
  /** Why. Required, but for a `dryRun`. */
  note?: string;
  /** Who, where the call's meta names no user. */
  by?: string;
  /** Only tell what would be done. */
  dryRun?: boolean;
}

/** Messages whose payload is kept, and why. */
export interface NotErased {
  status: string;
  messages: number;
  why: string;
}

export interface Erased {
  key: string;
  /** Finished messages whose payload was dropped by this act; with `dryRun`, would be. */
  erased: number;
  /** Finished ones that had none any more. */
  already: number;
  /** What has this key and keeps its payload: erase again when it is finished. */
  left: NotErased[];
  /** More than 100,000 of one kind, or counting them took too long: then `already` and `left` are at least that. */
  capped?: true;
  dryRun: boolean;
}

/** Rows of one command: each may have a body that is deleted with it. */
const PAGE = 500;

/** As lists count what is not finished. */
const COUNTED = 100_000;

const WHY: Partial<Record<Status, string>> = {
  [STATUS.scheduled]: "it is to be sent yet, with its payload: cancel it first",
  [STATUS.intended]: "it is not known yet whether its business write happened; the payload may have to be sent",
  [STATUS.pending]: "it is not delivered yet, and the payload is to be sent",
  [STATUS.published]: "a group has not answered yet, and the payload may have to be sent again",
  [STATUS.dead]: "a human decides: retry, resolve or discard it"
};

export interface EraseParts extends AuditParts {
  store: Store;
}

/**
 * Drops the payloads of all finished messages with this key, with meta, headers and the texts of errors; their rows
 * stay. What is not finished is told: its payload is still needed. One audit record.
 *
 *   process dies in the middle   its record stays `begun`; repeating the act drops the rest, under a record of its own
 */
export async function erase({ store, ...parts }: EraseParts, params: EraseParams, actor: Actor): Promise<Erased> {
  const { key, note: why, dryRun = false } = params;
  checkKey(key);
  if (!dryRun) needNote("erase", why, "who has asked for it, and when");
  const { operations } = store;
  const before = await operations.keyed(key, COUNTED);
  if (dryRun) return { key, ...told(before), erased: before.kept, dryRun };
  const counts: Record<string, number> = { matched: before.kept, done: 0 };
  const record = recordOf(store, { ...actor, act: "erase", note: why, filter: { key } });
  record.counts = counts;
  await store.audits.begin(record);
  const note: Note = { at: record.at, by: actor.by, act: "erase", ...(why !== undefined && { note: why }) };
  const after = await audited({ store, ...parts }, record._id, counts, async () => {
    for (;;) {
      const erased = await operations.erase(key, note, PAGE);
      if (!erased) break;
      counts["done"] = (counts["done"] as number) + erased;
    }
    const found = await operations.keyed(key, COUNTED);
    // Some may have become finished meanwhile.
    counts["matched"] = Math.max(before.kept, counts["done"] as number);
    counts["left"] = told(found).left.reduce((sum, { messages }) => sum + messages, found.kept);
    return found;
  });
  const { left, ...rest } = told(after);
  const again = "it became finished meanwhile, or the store refuses the change: erase again";
  if (after.kept) left.push({ status: "finished", messages: after.kept, why: again });
  return { key, ...rest, left, erased: counts["done"] as number, already: before.dropped, dryRun };
}

function told({ dropped, open, capped }: Keyed): Pick<Erased, "already" | "left" | "capped"> {
  const left = Object.entries(open).map(([status, messages]) => ({
    ...{ status, messages },
    why: WHY[status as Status] ?? "it is not finished"
  }));
  return { already: dropped, left, ...(capped && { capped }) };
}

/** Throws RELIABLE_BAD_OPTION. */
function checkKey(key: string): void {
  const fault = keyFault(key);
  if (fault === undefined) return;
  throw new ReliableError(
    "RELIABLE_BAD_OPTION",
    `'erase' needs a 'key' as 'name=value', like the emit option 'keys' makes it (customer=c-7); this one ${fault}.`,
    { option: "key" }
  );
}
