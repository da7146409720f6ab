import { ReliableError } from "../errors";

export function unreadableRow(id: string, reason: string, what = "message"): ReliableError {
  return new ReliableError("RELIABLE_UNREADABLE_ROW", `The row of ${what} '${id}' cannot be read: ${reason}.`, {
    id,
    reason
  });
}
