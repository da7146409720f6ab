import type { ConfirmChannel as AmqpChannel } from "amqplib";
import { ReliableError, reasonOf } from "../../errors";
import { notSent, type Publication, type PublishResult } from "../courier";
import { contentHeaderBytes } from "./content-header";
import { encodable } from "./headers";

/** amqplib encodes at most 64 KiB of headers. Where a frame is larger than them and the rest, none is measured. */
const ALWAYS_FITS_BYTES = 72 * 1024;

/** A publish on its way to its one outcome. */
export interface Entry {
  exchange: string;
  routingKey: string;
  publication: Publication;
  bytes: number;
  /** Separates two attempts of one message when a return comes, since a return has no delivery tag. */
  token: string;
  /** On which it was sent. */
  channel: AmqpChannel | undefined;
  /** Monotonic time. */
  deadline: number;
  returned: string | undefined;
  settled: boolean;
  resolve(result: PublishResult): void;
  reject(error: Error): void;
}

/**
 * Writes a publish, persistent and mandatory. False = the channel's buffer is full. `frameMax`: bytes, as negotiated.
 * Throws RELIABLE_HEADERS_TOO_LARGE, or what `resultOfThrown` reads; then nothing has left.
 */
export function write(
  channel: AmqpChannel,
  { exchange, routingKey, publication, token }: Entry,
  { frameMax, now }: { frameMax: number; now: number },
  answered: (error: Error | null) => void
): boolean {
  const { messageId, type, body, headers, appId, contentType = "application/json" } = publication;
  if (frameMax < ALWAYS_FITS_BYTES) {
    const bytes = contentHeaderBytes([messageId, token, type, appId, contentType], headers);
    if (bytes > frameMax) throw tooLarge(publication, `a frame of this connection (${frameMax} bytes)`);
  }
  const properties = {
    persistent: true,
    mandatory: true,
    messageId,
    correlationId: token,
    type,
    appId,
    contentType,
    headers: encodable(headers),
    timestamp: Math.floor(now / 1000)
  };
  try {
    return channel.publish(exchange, routingKey, body, properties, answered);
  } catch (thrown) {
    if (thrown instanceof RangeError && reasonOf(thrown).includes("field table"))
      throw tooLarge(publication, "64 KiB", thrown);
    throw thrown;
  }
}

/** amqplib encodes before it writes, so the channel is still good; or it was closed. */
export function resultOfThrown(thrown: unknown): PublishResult {
  const text = reasonOf(thrown);
  return (thrown as Error).name === "IllegalOperationError"
    ? notSent(text)
    : { outcome: "refused", reason: `cannot be encoded: ${text}` };
}

function tooLarge({ messageId: id, type }: Publication, limit: string, cause?: unknown): ReliableError {
  const text = `The headers of ${type} (${id}) take more than ${limit}.`;
  return new ReliableError("RELIABLE_HEADERS_TOO_LARGE", text, { id, type }, cause);
}
