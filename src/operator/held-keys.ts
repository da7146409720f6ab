import { ReliableError } from "../errors";
import { isUnsent } from "../message/lifecycle";
import type { MessageHead } from "../message/message";
import { isOrderKey } from "../message/order";
import type { HeldKey, LaneStore } from "../stores/lane-store";
import type { Actor } from "./actor";
import { type ActingParts, type ActResult, actOn } from "./acts";
import { needNote } from "./audit";

export interface KeysParams {
  /** Only this one. */
  key?: string;
  /** @default 100 */
  limit?: number;
}

/** A key that is held in a group, and what holds it. Flat, with instants as ISO strings. */
export interface HeldKeyRow {
  key: string;
  group: string;
  /** The message that has failed for good, and its event. */
  id: string;
  event: string;
  /** Since when it is held. */
  since: string;
  heldMs: number;
  /** Why its message is dead. */
  reason?: string;
  /** How many messages wait behind it in this group. `capped`: there are more. */
  behind: number;
  capped?: true;
}

/** Those longest held first. `more`: there are others, beyond `limit`. */
export interface HeldKeys {
  rows: HeldKeyRow[];
  more: boolean;
}

export interface SkipParams {
  /** The order key. */
  key: string;
  /** Only what has failed in this group. */
  group?: string;
  /** How it was dealt with. Required, but for a `dryRun`. */
  note?: string;
  /** Who, where the call's meta names no user. */
  by?: string;
  dryRun?: boolean;
}

const DEFAULT_LIMIT = 100;

/** Messages that hold one key: in each group it is one. */
const MAX_HOLDING = 500;

/** What is held now; of one key, if it is given. */
export async function heldNow(
  lanes: Pick<LaneStore, "held">,
  { key, limit = DEFAULT_LIMIT }: KeysParams,
  now: number
): Promise<HeldKeys> {
  if (key !== undefined) checkKey(key);
  const { keys, more } = await lanes.held(limit, key);
  return { rows: keys.map(each => heldKeyRow(each, now)), more };
}

export function heldKeyRow({ since, ...held }: HeldKey, now: number): HeldKeyRow {
  const { key, group, id, event, reason, behind, capped } = held;
  return {
    ...{ key, group, id, event, since: since.toISOString(), heldMs: Math.max(0, now - since.getTime()) },
    ...(reason !== undefined && { reason }),
    behind,
    ...(capped && { capped })
  };
}

/**
 * Resolves what holds the key, so that the next message of it gets its turn. Rejects with RELIABLE_NOT_FOUND (nothing
 * holds it), RELIABLE_BAD_OPTION (no `note`; no order key).
 */
export async function skip(parts: ActingParts, params: SkipParams, actor: Actor): Promise<ActResult> {
  const { key, group, note, dryRun = false } = params;
  checkKey(key);
  if (!dryRun) needNote("skip", note, "why its key goes on without it");
  const { keys } = await parts.store.lanes.held(MAX_HOLDING, key);
  const holding = keys.filter(held => group === undefined || held.group === group);
  const ids = [...new Set(holding.map(({ id }) => id))];
  if (!ids.length) throw await notHeld(parts.store.lanes, key, group, keys);
  const given = { ids, ...(note !== undefined && { note }), dryRun };
  return actOn(parts, "skip", given, actor, { orderKey: key, ...(group !== undefined && { group }) });
}

/** By group: for which other message of its order key it waits. */
export async function aheadOf(
  lanes: Pick<LaneStore, "held" | "holders">,
  { _id, order, status, waiting }: Pick<MessageHead, "_id" | "order" | "status" | "waiting">
): Promise<Map<string, string>> {
  if (!order || isUnsent(status) || !waiting.length) return new Map();
  const [holders, { keys }] = await Promise.all([lanes.holders(order.key), lanes.held(MAX_HOLDING, order.key)]);
  const others = [...(holders ?? [])].filter(([group, id]) => id !== _id && waiting.includes(group));
  return new Map(
    others.map(([group, id]) => {
      const held = keys.find(each => each.group === group && each.id === id);
      const why = held ? `which holds the key since ${held.since.toISOString()}: retry or skip it` : "whose turn it is";
      return [group, `behind message ${id}, ${why}`];
    })
  );
}

function checkKey(key: string): void {
  if (isOrderKey(key)) return;
  throw new ReliableError("RELIABLE_BAD_OPTION", "'key' must be an order key: text of 1 to 200 bytes.", {
    option: "key"
  });
}

async function notHeld(
  lanes: LaneStore,
  key: string,
  group: string | undefined,
  keys: HeldKey[]
): Promise<ReliableError> {
  const where = group === undefined ? "" : ` in group '${group}'`;
  const error = (text: string) =>
    new ReliableError("RELIABLE_NOT_FOUND", `The key '${key}' is not held${where}: ${text}.`, {
      key,
      ...(group !== undefined && { group })
    });
  if (keys.length) return error(`it is held in ${keys.map(held => held.group).join(", ")}`);
  const holders = await lanes.holders(key);
  if (!holders) return error("no message with this order key is known");
  const turns = [...holders].map(([of, id]) => `message ${id} has its turn in ${of}`);
  return error(turns.length ? `${turns.slice(0, 3).join("; ")}` : "no message of it is under way");
}
