import { ReliableRetryableError, reasonOf } from "../errors";
import type { Decode, PayloadOf } from "../options/hooks";
import type { ConsumerSpec } from "./consumer-parts";

type Handle = ConsumerSpec["handle"];

/**
 * The handler behind its service's `decode`. A payload that is not encoded passes: its producer may not have the hook
 * (yet). What cannot be decoded is a failed attempt like one of the handler, and is tried again: a key may be missing,
 * or what gives the keys away.
 */
export function decoding(handle: Handle, decode: Decode | undefined): Handle {
  const decoded: Handle = async (envelope, extras, delivery) => {
    let payload: unknown;
    try {
      payload = await decodePayload(envelope.payload, envelope, decode);
    } catch (error) {
      return { error };
    }
    return handle({ ...envelope, payload }, extras, delivery);
  };
  return (envelope, extras, delivery) => (envelope.encoded ? decoded : handle)(envelope, extras, delivery);
}

/** Throws RELIABLE_NOT_DECODED; not to be tried again if the hook's error says `retryable: false`. */
export async function decodePayload(
  encoded: unknown,
  { id, event }: PayloadOf,
  decode: Decode | undefined
): Promise<unknown> {
  const failed = (why: string, cause?: unknown) =>
    new ReliableRetryableError(
      "RELIABLE_NOT_DECODED",
      `The payload of '${event}' (${id}) is encoded, and ${why}.`,
      { id, event },
      cause
    );
  if (!decode) throw failed("the service that is to handle it has no hook 'decode'");
  try {
    return await decode(encoded, { id, event });
  } catch (thrown) {
    const error = failed(`the hook 'decode' has failed: ${reasonOf(thrown)}`, thrown);
    if ((thrown as { retryable?: unknown } | null | undefined)?.retryable === false) error.retryable = false;
    throw error;
  }
}
