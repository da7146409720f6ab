import { ReliableError } from "../errors";

export function unreadableRow(id: string, reason: string): ReliableError {
  return new ReliableError("RELIABLE_UNREADABLE_ROW", `The row of message '${id}' cannot be read: ${reason}.`, {
    id,
    reason
  });
}
