import { ReliableError } from "../errors";
import { STATUSES, type Status } from "../message/lifecycle";
import type { ListQuery } from "../stores/store-records";

/** What an operator may filter by. Ages are in ms. */
export interface Filter {
  status?: string | string[];
  event?: string;
  group?: string;
  producer?: string;
  /** Age in ms: older than this, younger than this. */
  olderThanMs?: number;
  youngerThanMs?: number;
}

export function hasFilter(params: Filter): boolean {
  return (["status", "event", "group", "producer", "olderThanMs", "youngerThanMs"] as const).some(
    name => params[name] !== undefined
  );
}

export function queryOf(filter: Filter, now: number): ListQuery {
  const query: ListQuery = {};
  if (filter.status !== undefined) {
    const statuses = [filter.status]
      .flat()
      .flatMap(status => status.split(","))
      .map(status => status.trim());
    const unknown = statuses.find(status => !STATUSES.includes(status as Status));
    if (unknown !== undefined)
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        `Unknown status '${unknown}'. There are: ${STATUSES.join(", ")}.`,
        { option: "status" }
      );
    query.status = statuses as Status[];
  }
  if (filter.event !== undefined) query.event = filter.event;
  if (filter.group !== undefined) query.group = filter.group;
  if (filter.producer !== undefined) query.producer = filter.producer;
  if (filter.olderThanMs !== undefined) query.before = new Date(now - filter.olderThanMs);
  if (filter.youngerThanMs !== undefined) query.after = new Date(now - filter.youngerThanMs);
  return query;
}
