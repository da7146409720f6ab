/** What an operator may be allowed to do, by name. */
export const ACTS = [
  ...(["retry", "resolve", "discard", "cancel", "forget"] as const),
  ...(["pause", "resume", "sweep", "replay", "erase"] as const)
] as const;

export type Act = (typeof ACTS)[number];

/** What a viewer may do: everything, look, or look and do these. */
export type Access = "all" | "read" | Act[];

/** `GET api/<name>?params=<JSON>`. */
export const READS = [
  ...["overview", "history", "causes", "list", "get", "payload", "subscriptions"],
  ...["parked", "audits", "bulks", "paused", "keys"]
] as const;

/**
 * `POST api/<name>` with a JSON body. `bulk` asks for the right of its `act`, `bulkChange` for that of the bulk act, and
 * `skip` for that of `resolve`, which it is for the message.
 */
export const ACT_CALLS = [...ACTS, "skip", "bulk", "bulkChange"] as const;

export type ActCall = (typeof ACT_CALLS)[number];

/** Sent with each request that changes something: a page of another site cannot. */
export const ACT_HEADER = "x-reliable-dashboard";

export const MAX_BODY_BYTES = 64 * 1024;

/** Which cluster this is, so that nobody takes one for another. */
export interface EnvironmentBadge {
  text: string;
  tone?: "red" | "amber" | "green" | "blue";
}

/** What `api/session` answers. */
export interface Session {
  /** As acts record it; null = nobody has to log in. */
  user: string | null;
  access: Access;
  /** The acts of `access`. */
  acts: Act[];
  badge?: EnvironmentBadge;
  namespace: string;
  version: string;
  /** Payloads are sent only when they are asked for. */
  hidePayloads: boolean;
  /** A link to a trace, with `{traceID}`, `{requestID}` and `{id}`. */
  traceUrl?: string;
  pollMs: number;
  /** Of the node that serves the page. */
  nodeID: string;
}

/** What `api/payload` answers; `get` and one parked message have `withheld` in the same sense. */
export interface PayloadAnswer {
  payload: unknown;
  /** Of the message; here where `hidePayloads` keeps it out of `get`. */
  meta?: Record<string, unknown>;
  /** Why there is no payload, in words: `redact` could not tell what in it may be shown. */
  withheld?: string;
  payloadDroppedAt?: string;
  encoded?: true;
}

/** The answer of what failed. */
export interface ApiError {
  error: { type: string; message: string; data?: Record<string, unknown> };
}

/** Errors of the page's server itself. All others have the type that the action rejects with. */
export const API_ERRORS = {
  forbidden: "RELIABLE_FORBIDDEN",
  unauthenticated: "RELIABLE_UNAUTHENTICATED",
  badRequest: "RELIABLE_BAD_REQUEST",
  noPage: "RELIABLE_NO_PAGE",
  internal: "RELIABLE_INTERNAL"
} as const;
