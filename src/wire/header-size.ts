import { ReliableError } from "../errors";
import type { Origin } from "../message/message";
import { MAX_HEADER_BYTES } from "./envelope";
import { isEmpty, stringify } from "./json";

/** An origin of at most this many characters needs no counting if it travels alone. */
const MAX_SHORT_ORIGIN = 1000;

/**
 * Throws RELIABLE_BAD_OPTION or RELIABLE_HEADERS_TOO_LARGE for headers that cannot be sent. Origin and groups come from
 * outside and have no limit of their own.
 */
export function checkHeaders(
  event: string,
  meta: Record<string, unknown>,
  headers: Record<string, unknown>,
  origin: Origin,
  groups: string[]
): void {
  const size = (value: object, what: string) =>
    isEmpty(value)
      ? 0
      : Buffer.byteLength(
          stringify(
            value,
            where =>
              new ReliableError("RELIABLE_BAD_OPTION", `Cannot emit '${event}' reliably: ${where}.`, {
                event,
                option: what
              }),
            what
          )
        );
  if (!groups.length && isEmpty(meta) && isEmpty(headers) && areShort(origin)) return;
  const bytes = size(meta, "meta") + size(headers, "headers") + size([origin, groups], "the context");
  if (bytes > MAX_HEADER_BYTES) {
    throw new ReliableError(
      "RELIABLE_HEADERS_TOO_LARGE",
      `Cannot emit '${event}' reliably: meta, headers and the names that go with it are ${bytes} bytes, AMQP carries ${MAX_HEADER_BYTES}.`,
      { event, bytes }
    );
  }
}

/** Most emits need no JSON of the origin to measure it. */
function areShort(origin: Origin): boolean {
  const { requestID = "", parentID = "", caller = "", nodeID = "" } = origin as Record<string, unknown>;
  return (
    typeof requestID === "string" &&
    typeof parentID === "string" &&
    typeof caller === "string" &&
    typeof nodeID === "string" &&
    requestID.length + parentID.length + caller.length + nodeID.length <= MAX_SHORT_ORIGIN
  );
}
