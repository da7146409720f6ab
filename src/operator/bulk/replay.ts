import { ReliableError } from "../../errors";
import { BULK_RATES, type Bulk } from "../../message/bulk";
import { baseGroup, matches, namesGroup } from "../../message/pattern";
import type { Subscription } from "../../message/records";
import { newId } from "../../platform/ids";
import type { Actor } from "../actor";
import { instantOf } from "../instant";
import { type BulkBegun, type BulkOperationsParts, beginBulk, checkNote, countedAtOf, underWayOf } from "./bulk";
import { timeText } from "./bulk-views";
import { Replaying, type Taking } from "./replaying";

export interface ReplayParams {
  /** Whom it is sent to: a group that consumes, new or old, or one of its handlers. */
  group: string;
  /** Only this event. Without it all that the group takes. */
  event?: string;
  /** Emitted from then on, and before then. ISO text (UTC without a zone), or ms since 1970. @default toAt: now */
  fromAt: string | number;
  toAt?: string | number;
  /** Messages per second. @default 100 */
  perSecond?: number;
  /** What the group has handled is handled once more. Needs a `note`. @default false */
  again?: boolean;
  note?: string;
  /** Of a `dryRun` that a human has seen, in the place of now. At most an hour ago. */
  countedAt?: string | number;
  /** Only returns what would be done. @default false */
  dryRun?: boolean;
}

export interface ReplayBegun extends BulkBegun {
  /** Of the same time, without a payload (any more): they cannot be sent. */
  notReplayable: number;
  /** The group has handled them, or is to get them anyway; or they are for others. */
  skipped: number;
}

interface ReplayParts extends BulkOperationsParts {
  subscriptions: Taking & { readonly all: readonly Subscription[] };
}

/** It is counted for so long: whoever waits for the answer wants an order of magnitude. */
const COUNT_MS = 2000;
const COUNTED_AT_ONCE = 2000;

/** Sends kept messages to one group: a bulk act, seen and changed as any other. */
export class ReplayOperations {
  constructor(private readonly parts: ReplayParts) {}

  /**
   * Begins one, and does not wait for it. Rejects with RELIABLE_BAD_OPTION, RELIABLE_NOT_FOUND (nobody knows the group,
   * or it does not take the event) and RELIABLE_BULK_RUNNING.
   */
  async begin(params: ReplayParams, actor: Actor): Promise<ReplayBegun> {
    const { group, event, perSecond = BULK_RATES.default, again = false, note, dryRun = false } = params;
    const { store } = this.parts;
    if (!dryRun) checkNote("replay", { again, ...(note !== undefined && { note }) });
    const at = store.now();
    const from = instantOf("fromAt", params.fromAt);
    // What is emitted from now on, the group gets anyway.
    const { countedAt: now = at } = countedAtOf(params.countedAt, at);
    const to =
      params.toAt === undefined ? now : new Date(Math.min(now.getTime(), instantOf("toAt", params.toAt).getTime()));
    if (from >= to) throw bad("fromAt", "'fromAt' must be before 'toAt', and in the past.");
    await this.#checkGroup(group, event);
    const filter: Bulk["filter"] = {
      ...{ group, ...(event !== undefined && { event }), fromAt: from.toISOString(), toAt: to.toISOString() },
      ...(again && { again: "true" })
    };
    const of = { _id: newId(), act: "replay" as const, filter, at };
    const { matched, capped, ...others } = await this.#count({ ...of, by: actor.by });
    const found = { matched, ...(capped && { capped: true as const }) };
    const text = meantBy({ ...params, from, to, again, perSecond, matched, capped, ...others });
    const begun = { ...found, ...others, perSecond, dryRun, text };
    // Until now is the same at any time.
    const { toAt: _now, ...open } = filter;
    const same = params.toAt === undefined ? open : filter;
    if (dryRun) return { ...begun, countedAt: at.toISOString(), ...(await underWayOf(this.parts, "replay", same)) };
    if (!matched && !capped) return begun;
    await beginBulk(this.parts, { ...of, ...actor, ...(note?.trim() && { note }), ...found, perSecond }, same);
    return { id: of._id, ...begun };
  }

  async #checkGroup(group: string, event: string | undefined): Promise<void> {
    const { subscriptions } = this.parts;
    await subscriptions.refresh();
    const own = subscriptions.all.filter(known => namesGroup(group, known.group));
    if (!own.length) {
      const names = [...new Set(subscriptions.all.map(known => baseGroup(known.group)))].sort();
      throw new ReliableError(
        "RELIABLE_NOT_FOUND",
        `No group '${group}' is known; it must have consumed once. There are: ${names.join(", ") || "none"}.`,
        { group }
      );
    }
    if (event === undefined || own.some(({ pattern }) => matches(event, pattern))) return;
    const patterns = own.map(({ pattern }) => pattern).join(", ");
    throw new ReliableError(
      "RELIABLE_NOT_FOUND",
      `The group '${group}' does not take '${event}'; it takes ${patterns}.`,
      { group, event }
    );
  }

  async #count(bulk: Pick<Bulk, "_id" | "filter" | "by">) {
    const replaying = new Replaying(this.parts, bulk);
    const counts = { matched: 0, notReplayable: 0, skipped: 0, capped: false };
    const began = performance.now();
    let cursor: { at: Date; id: string } | undefined;
    for (;;) {
      const { rows, next } = await replaying.look(cursor, COUNTED_AT_ONCE);
      for (const [, what] of rows) {
        if (what === "sent") counts.matched++;
        else if (what === "skipped") counts.skipped++;
        else if (what === "not replayable") counts.notReplayable++;
      }
      if (!next) return counts;
      if (performance.now() - began > COUNT_MS) return { ...counts, capped: true };
      cursor = next;
    }
  }
}

function bad(option: string, text: string): ReliableError {
  return new ReliableError("RELIABLE_BAD_OPTION", text, { option });
}

export interface Meant extends Pick<ReplayParams, "group" | "event"> {
  from: Date;
  to: Date;
  again: boolean;
  perSecond: number;
  matched: number;
  capped: boolean;
  notReplayable: number;
  skipped: number;
}

/** What it does, in words. Where it was not counted to the end, what is known. */
export function meantBy(meant: Meant): string {
  const { group, event, from, to, again, perSecond, matched, capped, notReplayable, skipped } = meant;
  const number = (n: number) => n.toLocaleString("en-US");
  const time = matched && !capped ? `, about ${timeText((matched / perSecond) * 1000)}` : "";
  const of = event === undefined ? "" : ` of event ${event}`;
  const least = capped ? "At least " : "";
  return [
    `Sends ${capped ? "messages" : `${number(matched)} message(s)`}${of}, emitted from ${from.toISOString()} to ${to.toISOString()}, to group ${group}, ${perSecond} per second${time}.`,
    ...(capped
      ? [
          `They were counted for ${COUNT_MS / 1000} s, and there are more: ${matched ? `at least ${number(matched)} are to be sent` : "none to be sent was met so far"}.`
        ]
      : []),
    again ? "What the group has handled is handled once more." : "What the group has handled is not handled again.",
    ...(skipped
      ? [
          `${least}${number(skipped)} more are left out: the group has them or gets them anyway, or they are for others.`
        ]
      : []),
    ...(notReplayable ? [`${least}${number(notReplayable)} more have no payload any more and cannot be sent.`] : [])
  ].join(" ");
}
