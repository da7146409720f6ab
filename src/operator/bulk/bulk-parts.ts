import type { Bulk } from "../../message/bulk";
import { STATUS } from "../../message/lifecycle";
import type { AuditRecord } from "../../message/records";
import type { BulkScope } from "../../stores/bulk-store";
import { queryOf } from "../filter";

/** What a bulk act is about: the same in every process and at any time, since it goes by its start, or its count. */
export function scopeOf({
  _id: bulk,
  act,
  filter,
  at: begun,
  countedAt: at = begun
}: Pick<Bulk, "_id" | "act" | "filter" | "at" | "countedAt">): BulkScope {
  const query = queryOf(filter, at.getTime());
  const before = query.before && query.before < at ? query.before : at;
  return { bulk, act, query: { ...query, before, status: STATUS.dead, groupIn: ["failed"] } };
}

/** The one audit record of a bulk act, as it is begun. */
export function auditOf({ _id, at, by, onBehalfOf, act, note, filter, ...counts }: Bulk): AuditRecord {
  return {
    ...{ _id, at, by, act, filter, state: "begun", bulk: true, counts: countsOf(counts) },
    ...(onBehalfOf !== undefined && { onBehalfOf }),
    ...(note !== undefined && { note })
  };
}

export function countsOf({
  matched,
  done,
  lost,
  refused,
  waiting,
  skipped,
  notReplayable
}: Pick<Bulk, "matched" | "done" | "lost" | "refused" | "waiting" | "skipped" | "notReplayable">): Record<
  string,
  number
> {
  return {
    matched,
    done,
    lost,
    ...(refused && { refused }),
    ...(waiting && { waiting }),
    ...(skipped && { skipped }),
    ...(notReplayable && { notReplayable })
  };
}
