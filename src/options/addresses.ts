import { ReliableError } from "../errors";
import { hasControl } from "../platform/printable";
import type { Values } from "./validate";
import { isPlain } from "./validate";

/** One address, with options of Node.js' `tls.connect`. */
export interface Secured {
  url: string;
  tls?: Record<string, unknown>;
}

/** undefined: a live client. */
export function withTls(option: unknown): Secured | undefined {
  if (typeof option === "string") return { url: option };
  return isPlain(option) && "url" in option ? (option as unknown as Secured) : undefined;
}

/** Where MongoDB keeps its own: not replicated, or closed to transactions. */
const OWN_DATABASES = ["admin", "local", "config"];

/** Why it cannot be the name of our database, as the end of a sentence. */
export function databaseFault(name: string): string | undefined {
  if (OWN_DATABASES.includes(name.toLowerCase())) return "is one of MongoDB's own";
  if (/[/\\. "$]/.test(name) || hasControl(name))
    return 'contains one of / \\ . " $, a space or a control character, which MongoDB does not allow';
  if (Buffer.byteLength(name) > 63) return "is longer than 63 bytes";
  return undefined;
}

export function checkAddresses(values: Values): void {
  const { database } = values;
  const fault = typeof database === "string" ? databaseFault(database) : undefined;
  if (fault) throw new ReliableError("RELIABLE_BAD_OPTION", `The option 'database' ${fault}.`, { option: "database" });
  const bad = (option: string, want: string) => {
    throw new ReliableError("RELIABLE_BAD_OPTION", `The option '${option}' must be ${want}.`, { option });
  };
  const urlOk = (url: unknown, protocols: string[]) => {
    if (
      typeof url !== "string" ||
      !protocols.some(protocol => url.startsWith(`${protocol}://`) && url.length > protocol.length + 3)
    )
      return false;
    // The part of a password after the slash would be read as host and path, and shown in errors.
    if (/^[^/]*\/\/[^/?#]*[/?#][^?]*@/.test(url))
      bad(
        protocols[0] === "mongodb" ? "mongo" : (protocols[0] as string),
        "a URL whose user and password have / ? # and @ percent-encoded (%2F %3F %23 %40)"
      );
    return true;
  };
  const { amqp, mongo, redis } = values;
  if (amqp !== undefined) {
    checkTls("amqp", "urls", amqp);
    const given = isPlain(amqp) ? amqp.urls : amqp;
    const urls = (Array.isArray(given) ? given : typeof given === "string" ? given.split(/[;,]/) : []).map(url =>
      typeof url === "string" ? url.trim() : url
    );
    if (!urls.length || !urls.every(url => urlOk(url, ["amqp", "amqps"])))
      bad("amqp", "an amqp:// or amqps:// URL, a list of them, or { urls, tls }");
    if (isPlain(amqp) && amqp.tls && !urls.every(url => urlOk(url, ["amqps"])))
      bad("amqp", "given with amqps:// where it has 'tls': amqp:// is not encrypted");
  }
  for (const [option, value, protocols, client, mark] of [
    ["mongo", mongo, ["mongodb", "mongodb+srv"], "MongoClient", "db"],
    ["redis", redis, ["redis", "rediss"], "ioredis client", "defineCommand"]
  ] as const) {
    if (value === undefined || (typeof value === "object" && value !== null && mark in value)) continue;
    if (isPlain(value)) checkTls(option, "url", value);
    const { url, tls } = withTls(value) ?? {};
    if (!urlOk(url, [...protocols])) bad(option, `a ${protocols[0]}:// URL, { url, tls }, or a live ${client}`);
    if (tls && option === "redis" && !urlOk(url, ["rediss"]))
      bad(option, "given with rediss:// where it has 'tls': redis:// is not encrypted");
    if (tls && option === "mongo" && /[?&](tls|ssl)=false/i.test(url as string))
      bad(option, "given without tls=false in the URL where it has 'tls'");
  }
}

function checkTls(option: string, address: string, value: unknown): void {
  if (!isPlain(value)) return;
  const strange =
    Object.keys(value).find(key => key !== address && key !== "tls") ??
    (value.tls !== undefined && !isPlain(value.tls) ? "tls" : undefined);
  if (strange !== undefined)
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The option '${option}' must be given as { ${address}, tls } and nothing else, with 'tls' an object (see '${strange}').`,
      { option }
    );
}
