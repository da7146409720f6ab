import type { CourierStatus } from "../couriers/courier";

/** A healthy broker confirms in milliseconds, one under load in a second or two. */
const UNCONFIRMED_MS = 5000;
/** After 5 s its host is left. */
export const UNANSWERED_MS = 2000;

export interface RabbitmqNow {
  ok: boolean;
  text: string;
  /** It is connected, and what is asked of it has no answer: frozen, maybe, which the connection finds out later. */
  slow?: string;
}

/** Pure: how RabbitMQ is. `late`: of how many queues it did not tell within `lateMs`. */
export function rabbitmqNow(
  { publish, blocked, blockedReason, unconfirmedMs, unansweredMs }: CourierStatus,
  late: number,
  lateMs: number
): RabbitmqNow {
  if (!publish.connected)
    return { ok: false, text: `does not answer${publish.lastError ? `: ${publish.lastError}` : ""}` };
  if (blocked) return { ok: false, text: `blocks publishers: ${blockedReason ?? ""}` };
  const slow = [
    ...(late ? [`no answer about ${late} queue${late === 1 ? "" : "s"} within ${lateMs / 1000} s`] : []),
    ...(unconfirmedMs > UNCONFIRMED_MS ? [`no confirms for ${Math.round(unconfirmedMs / 1000)} s`] : []),
    ...(unansweredMs > UNANSWERED_MS ? [`no answer for ${Math.round(unansweredMs / 1000)} s`] : [])
  ].join(", ");
  return slow
    ? { ok: false, text: `connected, answers slowly: ${slow}`, slow }
    : { ok: true, text: `up (${publish.address})` };
}
