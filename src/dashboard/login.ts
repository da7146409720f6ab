import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { setTimeout as wait } from "node:timers/promises";
import { reasonOf } from "../errors";
import type { Warnings } from "../platform/warnings";
import { API_ERRORS } from "./api";
import { HttpError, unauthenticated } from "./http-error";

/** Who asks. Rejects with a 401 for nobody. */
export type Login = (req: IncomingMessage) => Promise<unknown>;

/** A wrong password costs this much, so that few can be tried. */
const FAILURE_MS = 1000;

/**
 * For one name, of one address: further ones are not looked at until some have been answered. Of one name, since behind a
 * proxy all have its address, and who knows no name must keep nobody out.
 */
const FAILURES_AT_ONCE = 10;

const CHALLENGE = { "www-authenticate": 'Basic realm="Reliable events", charset="UTF-8"' };

const digest = (text: string) => createHash("sha256").update(text.normalize("NFC")).digest();

/** HTTP Basic, by names and passwords. */
export function basicLogin(users: Record<string, string>, failureMs = FAILURE_MS): Login {
  const known = new Map(Object.entries(users).map(([name, password]) => [name.normalize("NFC"), digest(password)]));
  const nobody = digest("");
  const failing = new Map<string, number>();

  return async req => {
    const given = credentialsOf(req);
    // A browser asks without first.
    if (!given) throw unauthenticated(CHALLENGE);
    const from = `${req.socket.remoteAddress ?? ""} ${given.name}`;
    const under = failing.get(from) ?? 0;
    if (under >= FAILURES_AT_ONCE)
      throw new HttpError(429, API_ERRORS.unauthenticated, "Too many wrong passwords; try again in a second.", {
        "retry-after": "1"
      });
    // A name that is not known takes as long as a wrong password; none is empty.
    const right = timingSafeEqual(digest(given.password), known.get(given.name) ?? nobody);
    if (right && known.has(given.name)) return { username: given.name };
    failing.set(from, under + 1);
    try {
      await wait(failureMs);
    } finally {
      const left = (failing.get(from) ?? 1) - 1;
      if (left > 0) failing.set(from, left);
      else failing.delete(from);
    }
    throw unauthenticated(CHALLENGE);
  };
}

/** The password may have colons in it, and both any letters. */
function credentialsOf({ headers }: IncomingMessage): { name: string; password: string } | undefined {
  const [, encoded] = /^basic +([A-Za-z0-9+/=_-]+) *$/i.exec(headers.authorization ?? "") ?? [];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (colon < 0) return undefined;
  return { name: text.slice(0, colon).normalize("NFC"), password: text.slice(colon + 1) };
}

/** The user's own. What fails lets nobody in. */
export function ownLogin(authentication: (req: IncomingMessage) => unknown, warnings: Warnings): Login {
  return async req => {
    let user: unknown;
    try {
      user = await authentication(req);
    } catch (error) {
      const text = reasonOf(error);
      warnings.error("dashboard login", text, `Reliable: the dashboard's 'authentication' has failed: ${text}`);
    }
    if (!user) throw unauthenticated();
    return user;
  };
}
