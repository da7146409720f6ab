/** What an operator may be allowed to do, by name. */
export const ACTS = ["retry", "resolve", "discard", "forget", "pause", "resume", "sweep", "replay", "erase"] as const;

export type Act = (typeof ACTS)[number];

/** What a viewer may do: everything, look, or look and do these. */
export type Access = "all" | "read" | Act[];

/** Sent with each request that changes something: a page of another site cannot. */
export const ACT_HEADER = "x-reliable-dashboard";

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

/** The answer of what failed. */
export interface ApiError {
  error: { type: string; message: string; data?: Record<string, unknown> };
}
