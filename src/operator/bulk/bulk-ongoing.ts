import { BULK_STATE, type Bulk, isUnderWay } from "../../message/bulk";
import type { Store } from "../../stores/store";
import type { RunningBulk } from "../advice";

/** Older ones are history. */
const SHOWN_MS = 24 * 3_600_000;

/** Of so many, the newest. */
const LOOKED_AT = 50;

/** Under way; or stopped by itself, or failed, within the last day, and not begun again since. Newest first. */
export async function ongoingBulks(store: Store): Promise<RunningBulk[]> {
  const { rows } = await store.bulks.list(0, LOOKED_AT);
  const since = store.now().getTime() - SHOWN_MS;
  return rows
    .filter((bulk, i) => {
      if (isUnderWay(bulk)) return true;
      const isLast = rows.findIndex(({ key }) => key === bulk.key) === i;
      return isLast && endedBadly(bulk) && (bulk.endedAt ?? bulk.at).getTime() > since;
    })
    .map(({ _id: id, act, state, why }) => ({ id, act, state, ...(why !== undefined && { reason: why }) }));
}

function endedBadly({ state, changes }: Bulk): boolean {
  if (state === BULK_STATE.failed) return true;
  return state === BULK_STATE.stopped && !changes.some(({ change }) => change === "stop");
}
