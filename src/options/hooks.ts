/** The message that a payload is of; the same where it is encoded and where it is decoded. */
export interface PayloadOf {
  id: string;
  event: string;
}

/**
 * Makes of a payload what is stored and sent: any JSON value. The payload comes as JSON carries it. Called on the
 * emitting service, once per emit, and each time its `source` has answered.
 */
export type Encode = (payload: unknown, of: PayloadOf) => unknown;

/** The way back. Called on the consuming service, before params validation; and on the emitting one, to compare. */
export type Decode = (encoded: unknown, of: PayloadOf) => unknown;

/** A group has failed for good. Instants are ISO strings. */
export interface DeadNews {
  id: string;
  event: string;
  /** Not there: no group is known, or it is an intent of which nothing is known. */
  group?: string;
  /** As in `$reliable.dead`. */
  cause: string;
  reason: string;
  diedAt: string;
  createdAt: string;
  /** Message keys, as `name=value`. */
  keys?: string[];
  /** Of the request that it was emitted in. */
  requestID?: string;
}

/** Called on one instance of the emitting service. */
export type OnDead = (message: DeadNews) => unknown;
