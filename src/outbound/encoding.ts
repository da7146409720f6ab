import { TIMED_OUT, withTimeout } from "../async/deadline";
import { ReliableRetryableError, reasonOf } from "../errors";
import type { Decode, Encode, PayloadOf } from "../options/hooks";
import type { Clock } from "../platform/clock";
import { sameJson, serialize } from "../wire/json";

export interface EncodingLimits {
  maxPayloadBytes: number;
  timeoutMs: number;
  clock: Clock;
}

/**
 * The bytes that are stored and sent in place of a payload. Throws RELIABLE_NOT_ENCODED, and RELIABLE_BAD_PAYLOAD or
 * RELIABLE_PAYLOAD_TOO_LARGE for what `encode` returns.
 */
export async function encodeBody(
  encode: Encode,
  plain: Buffer,
  { id, event }: PayloadOf,
  { maxPayloadBytes, timeoutMs, clock }: EncodingLimits
): Promise<Buffer> {
  const failed = (why: string, cause?: unknown) =>
    new ReliableRetryableError(
      "RELIABLE_NOT_ENCODED",
      `The hook 'encode' ${why}; nothing was stored of '${event}' (${id}).`,
      { id, event },
      cause
    );
  let encoded: unknown;
  try {
    // A hook that throws at once is no other than one that rejects.
    const work = Promise.resolve().then(() => encode(parsed(plain), { id, event }));
    encoded = await withTimeout(work, timeoutMs, clock);
  } catch (error) {
    throw failed(`has failed: ${reasonOf(error)}`, error);
  }
  if (encoded === TIMED_OUT) throw failed(`did not answer within ${timeoutMs} ms`);
  return serialize(event, encoded, maxPayloadBytes, "what the hook 'encode' returned");
}

/** An emit's payload before it was encoded, to compare it with that of an earlier emit of its id. */
export interface PlainPayload {
  body: Buffer;
  decode: Decode | undefined;
}

/**
 * Whether the encoded body holds this payload: each encoding of it may be another. One that cannot be decoded is taken
 * for the same: the emit may well be a repeated one, which must not fail because a key is gone.
 */
export async function encodesSame(encoded: Buffer, { body, decode }: PlainPayload, of: PayloadOf): Promise<boolean> {
  if (!decode) return true;
  try {
    return sameJson(Buffer.from(JSON.stringify(await decode(parsed(encoded), of))), body);
  } catch {
    return true;
  }
}

function parsed(body: Buffer): unknown {
  return JSON.parse(body.toString());
}
