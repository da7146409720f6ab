import { ReliableError } from "../errors";
import { keyFault } from "../message/keys";
import { FAILURE_CAUSES } from "../message/last-error";
import { STATUS, STATUSES, type Status } from "../message/lifecycle";
import type { FailureCause } from "../message/message";
import type { ListQuery } from "../stores/store-records";
import { instantOf } from "./instant";

/** What an operator may filter by. Ages are in ms. */
export interface Filter {
  status?: string | string[];
  event?: string;
  group?: string;
  producer?: string;
  /** Age in ms: older than this, younger than this. */
  olderThanMs?: number;
  youngerThanMs?: number;
  /** How the id begins. */
  idPrefix?: string;
  requestID?: string;
  /** A message key, `name=value`; of several all. */
  key?: string | string[];
  /** Of the error by which a group has failed for good: its type (or code, or name), its cause, its text in `causes`. */
  errorType?: string;
  cause?: string;
  errorText?: string;
  /** When it died: from then on, and before then. ISO text (UTC without a zone), or ms since 1970. Only dead messages. */
  deadFromAt?: string | number;
  deadToAt?: string | number;
}

/** As they are asked for. */
const PLAIN = ["event", "group", "producer", "idPrefix", "requestID", "errorType", "errorText"] as const;

/** Only dead messages have what these are about. */
const OF_DEAD = ["errorType", "cause", "errorText", "deadFromAt", "deadToAt"] as const;

export const FILTER_FIELDS = [
  "status",
  "event",
  "group",
  "producer",
  "olderThanMs",
  "youngerThanMs",
  "idPrefix",
  "requestID",
  "key",
  "errorType",
  "cause",
  "errorText",
  "deadFromAt",
  "deadToAt"
] as const satisfies (keyof Filter)[];

export function hasFilter(params: Filter): boolean {
  return FILTER_FIELDS.some(name => params[name] !== undefined);
}

/** As it was given, for the audit record. */
export function filterOf(params: Filter): Record<string, string | number | string[]> {
  return Object.fromEntries(
    FILTER_FIELDS.flatMap(name => {
      const { [name]: value } = params;
      return value === undefined ? [] : [[name, value]];
    })
  );
}

function bad(text: string, option: string): ReliableError {
  return new ReliableError("RELIABLE_BAD_OPTION", text, { option });
}

/** Throws RELIABLE_BAD_OPTION. */
export function queryOf(filter: Filter, now: number): ListQuery {
  const query: ListQuery = {};
  const statuses = filter.status === undefined ? undefined : statusesOf(filter.status);
  const ofDead = OF_DEAD.find(name => filter[name] !== undefined);
  if (statuses) query.status = statuses;
  if (ofDead !== undefined) {
    const other = statuses?.find(status => status !== STATUS.dead);
    if (other) throw bad(`'${ofDead}' finds dead messages only, and not ${other} ones.`, ofDead);
    query.status = STATUS.dead;
  }
  for (const name of PLAIN) if (filter[name] !== undefined) query[name] = filter[name];
  if (filter.cause !== undefined) query.cause = causeOf(filter.cause);
  if (filter.key !== undefined) query.keys = [filter.key].flat().map(keyOf);
  const from = [diedAt("deadFromAt", filter), ageOf(filter.youngerThanMs, now)].filter(at => at !== undefined);
  const to = [diedAt("deadToAt", filter), ageOf(filter.olderThanMs, now)].filter(at => at !== undefined);
  if (from.length) query.after = new Date(Math.max(...from));
  if (to.length) query.before = new Date(Math.min(...to));
  return query;
}

function statusesOf(given: string | string[]): Status[] {
  const statuses = [given]
    .flat()
    .flatMap(status => status.split(","))
    .map(status => status.trim());
  const unknown = statuses.find(status => !STATUSES.includes(status as Status));
  if (unknown !== undefined) throw bad(`Unknown status '${unknown}'. There are: ${STATUSES.join(", ")}.`, "status");
  return statuses as Status[];
}

function causeOf(given: string): FailureCause {
  if (FAILURE_CAUSES.includes(given as FailureCause)) return given as FailureCause;
  throw bad(`Unknown cause '${given}'. There are: ${FAILURE_CAUSES.join(", ")}.`, "cause");
}

function keyOf(given: string): string {
  const fault = keyFault(given);
  if (fault !== undefined) throw bad(`The key '${String(given).slice(0, 150)}' ${fault}.`, "key");
  return given;
}

function ageOf(ms: number | undefined, now: number): number | undefined {
  return ms === undefined ? undefined : now - ms;
}

function diedAt(name: "deadFromAt" | "deadToAt", { [name]: given }: Filter): number | undefined {
  return given === undefined ? undefined : instantOf(name, given).getTime();
}
