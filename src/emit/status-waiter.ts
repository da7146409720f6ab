import { TIMED_OUT, withTimeout } from "../async/deadline";
import { ReliableError, ReliableRetryableError } from "../errors";
import { STATUS, type Status } from "../message/lifecycle";
import { pauseText } from "../message/paused";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Call } from "../platform/call";
import type { Clock, Timer } from "../platform/clock";
import type { Store } from "../stores/store";
import type { Events } from "../telemetry/events";

export type Goal = "confirmed" | "consumed";

interface Waiter {
  id: string;
  goal: Goal;
  resolve(status: Status): void;
  reject(error: Error): void;
}

/** The state of a message. */
export interface StatusSeen {
  id: string;
  status: Status;
  reason?: string;
}

export interface StatusWaiterParts {
  /** A node without a store asks another node, by the action `reliable.statuses`. */
  store: Store | undefined;
  subscriptions: Subscriptions | undefined;
  call: Call;
  askTimeoutMs: number;
  events: Events;
  clock: Clock;
}

/** The states of these messages; ids that are not in the store are left out. */
export async function statusesOf(store: Store, ids: string[]): Promise<StatusSeen[]> {
  const rows = await store.messages.heads(ids);
  return rows.map(({ _id: id, status, reason }) => ({ id, status, ...(reason && { reason }) }));
}

/** An emit has waited as long as it may; the reason must not cost it much more. */
const PAUSED_MS = 1000;

const FIRST_POLL_MS = 25;
const MAX_POLL_MS = 500;

/**
 * Emits that wait for more than storage. What this node sees itself settles them at once. The tracker or sweeper that
 * changes the message may run on any node, so the store is asked too (through another node if this one has none): once
 * for all that wait, at a growing interval.
 */
export class StatusWaiter {
  readonly #waiting = new Map<string, Set<Waiter>>();
  readonly #deaf: (() => void)[];
  #timer: Timer | undefined;
  #pollMs = FIRST_POLL_MS;

  constructor(readonly parts: StatusWaiterParts) {
    const { events } = parts;
    this.#deaf = [
      events.on("consumed", ids => {
        for (const id of ids) this.saw(id, STATUS.consumed);
      }),
      events.on("dead", messages => {
        for (const { id, reason } of messages) this.saw(id, STATUS.dead, reason);
      })
    ];
  }

  get waiting(): boolean {
    return this.#waiting.size > 0;
  }

  /**
   * Resolves with the status that fulfils the goal. Rejects with RELIABLE_DEAD, RELIABLE_RESOLVED, or with RELIABLE_WAIT_TIMEOUT: the
   * message stays stored and is tried on.
   */
  wait(id: string, event: string, goal: Goal, timeoutMs: number, leftMs = timeoutMs): Promise<Status> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void) => {
        timer.stop();
        const set = this.#waiting.get(id);
        set?.delete(waiter);
        if (set?.size === 0) this.#waiting.delete(id);
        settle();
      };
      const waiter: Waiter = {
        id,
        goal,
        resolve: status => done(() => resolve(status)),
        reject: error => done(() => reject(error))
      };
      const expired = async () => {
        const paused = goal === "consumed" ? await this.#pausedFor(event) : [];
        const but = paused.length ? ` Paused: ${paused.join("; ")}.` : "";
        waiter.reject(
          new ReliableRetryableError(
            "RELIABLE_WAIT_TIMEOUT",
            `'${event}' (${id}) was stored but not ${goal} within ${timeoutMs} ms; it stays stored and will be tried on.${but}`,
            { id, event, goal, timeoutMs, ...(paused.length && { paused }) }
          )
        );
      };
      const timer = this.parts.clock.after(leftMs, () => void expired(), { ref: true });
      const set = this.#waiting.get(id) ?? new Set();
      this.#waiting.set(id, set.add(waiter));
      this.#pollMs = FIRST_POLL_MS;
      this.#schedule();
    });
  }

  /** Something happened to the message on this node. */
  saw(id: string, status: Status, reason?: string): void {
    for (const waiter of this.#waiting.get(id) ?? []) {
      if (
        status === STATUS.consumed ||
        status === STATUS.withdrawn ||
        (status === STATUS.resolved && waiter.goal === "confirmed") ||
        (status === STATUS.published && waiter.goal === "confirmed")
      )
        waiter.resolve(status);
      else if (status === STATUS.resolved)
        waiter.reject(
          new ReliableError(
            "RELIABLE_RESOLVED",
            `Message ${id} was closed by a human before every group had handled it; see \`reliable.get\`.`,
            { id }
          )
        );
      else if (status === STATUS.cancelled) {
        const text = `Message ${id} was called off before it was sent; see \`reliable.get\`.`;
        waiter.reject(new ReliableError("RELIABLE_RESOLVED", text, { id }));
      } else if (status === STATUS.dead)
        waiter.reject(
          new ReliableError("RELIABLE_DEAD", `Message ${id} is dead: ${reason ?? "see `reliable.get`"}`, { id, reason })
        );
    }
  }

  stop(): void {
    this.#timer?.stop();
    for (const unsubscribe of this.#deaf) unsubscribe();
    const error = new ReliableRetryableError(
      "RELIABLE_WAIT_STOPPED",
      "The node stopped while an emit was waiting; the message stays stored.",
      {}
    );
    for (const set of this.#waiting.values()) for (const waiter of set) waiter.reject(error);
  }

  /** Because of which pauses it may not be handled. Never rejects, and takes a second at most. */
  async #pausedFor(event: string): Promise<string[]> {
    const { subscriptions, call, clock } = this.parts;
    // As it was read some seconds ago: the emit has waited as long as it may.
    if (subscriptions) return subscriptions.pausedFor(event).map(pauseText);
    const asked = call("reliable.paused", { event }, { timeout: PAUSED_MS }) as Promise<{ text: string }[]>;
    const rows = await withTimeout(
      asked.catch(() => []),
      PAUSED_MS,
      clock
    );
    return rows === TIMED_OUT ? [] : rows.map(({ text }) => text);
  }

  #schedule(): void {
    this.#timer?.stop();
    if (!this.#waiting.size) return;
    this.#timer = this.parts.clock.after(this.#pollMs, () => void this.#poll(), { ref: true });
    this.#pollMs = Math.min(this.#pollMs * 2, MAX_POLL_MS);
  }

  async #poll(): Promise<void> {
    const seen = await this.#look([...this.#waiting.keys()]).catch((): StatusSeen[] => []);
    for (const { id, status, reason } of seen) this.saw(id, status, reason);
    this.#schedule();
  }

  /** The other node may return fewer ids than it was asked for. */
  async #look(ids: string[]): Promise<StatusSeen[]> {
    const { store, call, askTimeoutMs } = this.parts;
    if (store) return statusesOf(store, ids);
    return (await call("reliable.statuses", { ids }, { timeout: askTimeoutMs })) as StatusSeen[];
  }
}
