import type { IncomingMessage } from "node:http";
import { reasonOf } from "../errors";
import { actorOf } from "../operator/actor";
import type { Warnings } from "../platform/warnings";
import { ACTS, type Access, type Act } from "./api";
import { forbidden } from "./http-error";

/** Of the user's. `false`: may not even look. Asked at each call. */
export type AccessOf<User = unknown> = (user: User, req: IncomingMessage) => Access | false | Promise<Access | false>;

/** What somebody may do. */
export interface Rights {
  access: Access;
  acts: Act[];
}

const KNOWN: ReadonlySet<unknown> = new Set(ACTS);

export interface AccessParts {
  access: "anonymous" | AccessOf | undefined;
  readOnly: boolean;
  warnings: Warnings;
}

/** The name that acts record for this user; null where nobody has logged in. */
export function userName(user: unknown): string | null {
  if (user === undefined || user === null || user === false || user === "") return null;
  const hasName = typeof user === "string" ? user.trim() !== "" : typeof user !== "boolean";
  return actorOf({ meta: { user: hasName ? user : {} }, caller: null, nodeID: null }).by;
}

/** Rejects with a 403 for who may not look. */
export async function rightsOf(parts: AccessParts, user: unknown, req: IncomingMessage): Promise<Rights> {
  const { access, readOnly } = parts;
  const given = typeof access === "function" ? await asked(parts, access, user, req) : "all";
  if (given === false) throw forbidden(`${userName(user) ?? "Who has not logged in"} may not see this page.`);
  if (readOnly || given === "read") return { access: "read", acts: [] };
  return given === "all" ? { access: "all", acts: [...ACTS] } : { access: given, acts: given };
}

async function asked(
  { warnings }: AccessParts,
  access: AccessOf,
  user: unknown,
  req: IncomingMessage
): Promise<Access | false> {
  try {
    return checked(await access(user, req));
  } catch (error) {
    const text = reasonOf(error);
    warnings.error(
      "dashboard access",
      text,
      `Reliable: the dashboard's 'access' has failed, nobody is let in: ${text}`
    );
    return false;
  }
}

/** What it says is a right only if it is understood: nothing at all is `false`. */
function checked(said: unknown): Access | false {
  if (said === undefined || said === null || said === false) return false;
  if (said === "all" || said === "read") return said;
  if (Array.isArray(said) && said.every(act => KNOWN.has(act))) return [...new Set(said as Act[])];
  throw new Error(`it may answer "all", "read", a list of ${ACTS.join(", ")}, or false`);
}

/** Throws a 403. */
export function checkAct({ acts, access }: Rights, act: Act): void {
  if (acts.includes(act)) return;
  throw forbidden(
    access === "read"
      ? `This page is for looking only: '${act}' is not allowed.`
      : `'${act}' is not allowed; allowed are: ${acts.join(", ") || "none"}.`
  );
}
