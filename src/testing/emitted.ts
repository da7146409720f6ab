import { attemptsMade } from "../message/attempts";
import { STATUS, type Status } from "../message/lifecycle";
import { ANY_GROUP, groupsOf } from "../message/message";
import type { HandledPayload, ReliableEvent } from "../options/event-types";
import type { RecordedEmit } from "./emits";

/** A message that a service under test has emitted, and what has become of it by now. */
export interface EmittedMessage<Event extends string = string> {
  id: string;
  event: Event;
  /** As its handlers get it. */
  payload: HandledPayload<Event>;
  meta: Record<string, unknown>;
  headers: Record<string, string>;
  /** The emit's `keys`, as text. */
  keys: Record<string, string>;
  /** Full name of the service. */
  producer: string;
  strategy: "outbox" | "callback";
  status: Status;
  /** In the order of their names. Who is to handle it, or has, as far as known; none = no group of the test takes it. */
  groups: string[];
  /** Those that have handled it, that it waits for, and that have failed for good. */
  handledBy: string[];
  waitingFor: string[];
  failedIn: string[];
  /** Attempts made, by group. */
  attempts: Record<string, number>;
  /** The last 20, oldest first. */
  failures: { group: string | undefined; attempt: number | undefined; cause: string; error: string }[];
  /** Why it is `dead`. */
  reason: string | undefined;
  /** As its service gave it; of `delayMs` by the kit's clock. */
  sendAt: Date | undefined;
}

/** Any event's message; where events are typed, `event` tells of which. */
export type AnyEmittedMessage = { [Event in ReliableEvent]: EmittedMessage<Event> }[ReliableEvent];

/** Without a row, what is known is what its emit was given. */
export function emittedOf({ message, body, given, row }: RecordedEmit): EmittedMessage {
  const { _id: id, event, meta, headers, keys = [], producer, strategy } = message;
  const now = row ?? message;
  const groups = groupsOf(now).toSorted();
  const attempts = groups.map(group => {
    const { attempt = 0 } = now.receipts[group] ?? {};
    return [group, Math.max(attempt, now.spent[group] ?? 0, attemptsMade(now, group))] as const;
  });
  return {
    id,
    event,
    payload: JSON.parse(body.toString()),
    meta,
    headers: headers as Record<string, string>,
    keys: Object.fromEntries(keys.map(key => [key.slice(0, key.indexOf("=")), key.slice(key.indexOf("=") + 1)])),
    producer,
    strategy,
    status: row?.status ?? (strategy === "callback" ? STATUS.published : message.status),
    groups,
    handledBy: Object.keys(now.receipts).toSorted(),
    waitingFor: now.waiting.filter(group => group !== ANY_GROUP).toSorted(),
    failedIn: now.failed.toSorted(),
    attempts: Object.fromEntries(attempts),
    failures: now.failures.map(({ group, attempt, cause, error }) => ({
      ...{ group, attempt, cause },
      error: `${error.name}: ${error.message}`
    })),
    reason: row?.reason,
    sendAt: given ?? now.sendAt
  };
}
