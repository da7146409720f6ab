/** AMQP's content header: 7 bytes of frame header, class, weight, size and flags, 1 byte at the end. */
const FIXED_BYTES = 7 + 2 + 2 + 8 + 2 + 1;
/** A table's length and its entries' type bytes are counted below; delivery mode, priority and timestamp here. */
const SMALL_FIELDS_BYTES = 1 + 1 + 8;

const stringBytes = (text: string | undefined) => (text === undefined ? 0 : 1 + Buffer.byteLength(text));

/**
 * Bytes of the frame that carries a publish's properties and headers, a few too many where numbers could be written
 * shorter. AMQP cannot cut it into several: one above the negotiated frame size makes the broker close the connection.
 */
export function contentHeaderBytes(texts: (string | undefined)[], headers: Record<string, unknown>): number {
  return (
    FIXED_BYTES + SMALL_FIELDS_BYTES + texts.reduce((sum, text) => sum + stringBytes(text), 0) + valueBytes(headers)
  );
}

/** As amqplib encodes a field's value, with its type byte. */
function valueBytes(value: unknown): number {
  if (typeof value === "string") return 5 + Buffer.byteLength(value);
  if (Buffer.isBuffer(value)) return 5 + value.length;
  if (typeof value !== "object" || value === null) return 9;
  if (Array.isArray(value)) return value.reduce((sum: number, item) => sum + valueBytes(item), 5);
  let bytes = 5;
  for (const [name, item] of Object.entries(value))
    if (item !== undefined) bytes += 1 + Buffer.byteLength(name) + valueBytes(item);
  return bytes;
}
