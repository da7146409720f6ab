import { ReliableError } from "../errors";
import type { Position } from "../stores/store-records";

/** Where a list goes on. `final`: among the messages that are final, which come after all others. */
export interface Cursor {
  final: boolean;
  after?: Position;
}

/** For callers it is a text without meaning. */
export function cursorText({ final, after }: Cursor): string {
  return Buffer.from(JSON.stringify([final ? 1 : 0, ...(after ? [after.at.getTime(), after.id] : [])])).toString(
    "base64url"
  );
}

/** Throws RELIABLE_BAD_OPTION. */
export function cursorOf(text: string): Cursor {
  try {
    const [final, ms, id] = JSON.parse(Buffer.from(text, "base64url").toString()) as unknown[];
    const isRight = final === 0 || final === 1;
    if (isRight && ms === undefined) return { final: final === 1 };
    const at = new Date(ms as number);
    if (isRight && typeof ms === "number" && typeof id === "string" && !Number.isNaN(at.getTime()))
      return { final: final === 1, after: { at, id } };
  } catch {
    // It is no JSON: the same.
  }
  throw new ReliableError("RELIABLE_BAD_OPTION", "'cursor' must be the 'nextCursor' of a list before.", {
    option: "cursor"
  });
}
