/** Who acts, as the audit record names them. */
export interface Actor {
  by: string;
  /** What the call said in `by`, where the user in its meta is somebody else. */
  onBehalfOf?: string;
}

/** What is known of a call; `said`: its `by`. */
export interface ActorCall {
  meta: { $repl?: boolean; user?: unknown };
  caller: string | null;
  nodeID: string | null;
  said?: string;
}

/** Fields of `meta.user` that name somebody; the first that is there counts. */
const NAMES = ["username", "id", "name", "email", "_id", "sub"];

/** What the fields of such a user say is not kept: a token may be among them. */
const NAMELESS = "a user without a name (ctx.meta.user)";

const MAX_NAME = 300;

/**
 * Who did it: the user that the gateway has put into meta, whatever the call says; without one, what the call says; else
 * the REPL, or the calling service.
 */
export function actorOf({ meta, caller, nodeID, said }: ActorCall): Actor {
  const user = userOf(meta.user);
  const other = textOf(said);
  if (user !== undefined) return { by: user, ...(other !== undefined && other !== user && { onBehalfOf: other }) };
  if (other !== undefined) return { by: other };
  return { by: meta.$repl ? `REPL on ${nodeID}` : (caller ?? `node ${nodeID}`) };
}

function userOf(user: unknown): string | undefined {
  if (typeof user !== "object" || user === null) return textOf(user);
  for (const name of NAMES) {
    const text = textOf((user as Record<string, unknown>)[name]);
    if (text !== undefined) return text;
  }
  return NAMELESS;
}

function textOf(value: unknown): string | undefined {
  if (!["string", "number", "bigint"].includes(typeof value) && !isObjectId(value)) return undefined;
  const text = String(value).trim().slice(0, MAX_NAME);
  return text === "" ? undefined : text;
}

/** MongoDB's, of a local call: over a transporter it is a text. */
function isObjectId(value: unknown): boolean {
  return typeof (value as { toHexString?: unknown } | null | undefined)?.toHexString === "function";
}
