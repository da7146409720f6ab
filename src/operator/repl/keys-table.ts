import type { HeldKeys } from "../held-keys";
import { age, counted, grid } from "./tables";

/** `key`: the one that was asked for. */
export function keysTable({ rows, more }: HeldKeys, key?: unknown): string {
  if (!rows.length) return key === undefined ? "No key is held." : `The key ${key} is not held.`;
  const lines = rows.map(row => [
    ...[row.key, row.group, row.id, row.event, age(row.heldMs), counted(row.behind, row.capped), row.reason]
  ]);
  return [
    grid(["key", "group", "id", "event", "held for", "behind", "reason"], lines),
    ...(more ? ["There are more: --limit (500 at most)."] : []),
    'The key goes on when its message is handled (reliable retry <id>), or closed (reliable skip <key> --note "why").'
  ].join("\n");
}
