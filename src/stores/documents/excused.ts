import { STATUS } from "../../message/lifecycle";
import { FAILURES_KEPT, type Failure, LIBRARY, type Note } from "../../message/message";
import type { ExcusedRecord } from "../store-records";
import { keyOf, pathOf, ROW_DEFAULTS } from "./codec";
import type { Doc, Filter, Operation } from "./collection";
import { failureKept, notDead, noted, OPEN } from "./rows";

/**
 * What failed and does not count. The attempt is used up, so that whatever is still on its way about it finds it so, and
 * the budget grows by it (`base`): no number is used twice.
 */
export function excusing({ id, group, attempt, failure, nextAt, all }: ExcusedRecord): Operation {
  const spent = pathOf("spent", group);
  const base = pathOf("base", group);
  return {
    filter: {
      ...unanswered(id, group),
      ...OPEN,
      ...notDead(group),
      $or: [{ [spent]: { $exists: false } }, { [spent]: { $lt: attempt } }]
    },
    change: {
      $set: { [spent]: attempt, [`next.${keyOf(group)}`]: nextAt, ...(all && { [base]: attempt }) },
      ...(!all && { $inc: { [base]: 1 } }),
      $min: { dueAt: nextAt },
      $addToSet: { waiting: group },
      $push: failureKept(failure)
    }
  };
}

/** Fields that `givingBack` looks at. */
export const ABOUT_EXCUSED = ["groups", "failures", "maxAttempts"];

/**
 * What counts and should not: all that `all` is about, or the silence that a sweep took for the end of this attempt
 * before its failure was told. Only while the row is as it was read. Told twice, or after a human's retry, nothing is
 * left to be given back.
 */
export function givingBack(record: ExcusedRecord, doc: Doc): Operation[] {
  const { id, group, attempt, failure, nextAt, all } = record;
  const groups = (doc.groups ?? {}) as Record<string, Record<string, unknown> | undefined>;
  const { spent, base } = (groups[keyOf(group)] ?? {}) as { spent?: number; base?: number };
  const failures = (doc.failures ?? []) as Failure[];
  const own = failures.filter(each => each.group === group);
  const isCut = failures.length >= FAILURES_KEPT;
  const to = all ? allUpTo(attempt, own) : wasSilent(attempt, own, isCut) ? (base ?? 0) + 1 : 0;
  if (spent === undefined || spent < attempt || to <= (base ?? 0)) return [];
  const note: Note = {
    at: failure.at,
    by: failure.nodeID ?? LIBRARY,
    act: "excused",
    groups: [group],
    note: `its breaker opened: nothing up to attempt ${attempt} counts`
  };
  const filter: Filter = {
    ...unanswered(id, group),
    [pathOf("spent", group)]: spent,
    [pathOf("base", group)]: base ?? { $exists: false }
  };
  const $push = all ? noted(note) : failureKept(failure);
  const $set = { [pathOf("base", group)]: to };
  // The next attempt is scheduled, or under way.
  const open = { filter: { ...filter, ...OPEN, ...notDead(group) }, change: { $set, $push } };
  // With attempts left it has died of something that no further one could help.
  const maxAttempts = Number(doc.maxAttempts ?? ROW_DEFAULTS.maxAttempts);
  if (spent - (base ?? 0) < maxAttempts) return [open];
  const dead = {
    filter: { ...filter, status: STATUS.dead, failed: group },
    change: {
      $set: { ...$set, [`next.${keyOf(group)}`]: nextAt },
      $min: { dueAt: nextAt },
      $addToSet: { waiting: group },
      $pull: { failed: { $in: [group] }, lastErrors: { group: { $in: [group] } } },
      $unset: { [pathOf("deadAt", group)]: true, [pathOf("errors", group)]: true } as const,
      $push
    }
  };
  return [open, dead];
}

function allUpTo(attempt: number, own: Failure[]): number {
  return attempt + own.filter(each => each.excused && (each.attempt ?? 0) > attempt).length;
}

/** Or a later attempt had failed before that silence was written. Of failures that are not kept it cannot be known. */
function wasSilent(attempt: number, own: Failure[], isCut: boolean): boolean {
  const of = own.filter(each => each.attempt === attempt);
  return of.length ? of.every(({ cause }) => cause === "silence") : !isCut;
}

function unanswered(id: string, group: string): Filter {
  return { _id: String(id), [pathOf("receipts", group)]: { $exists: false } };
}
