import type { IncomingMessage } from "node:http";
import { ACT_HEADER, MAX_BODY_BYTES } from "./api";
import { badRequest, forbidden, type HttpError } from "./http-error";

/** A body of 64 KiB takes no longer on any line; who is slower holds a connection for nothing. */
const BODY_MS = 15_000;

const SAFE_SITES = ["same-origin", "none"];

/** Which host the browser has asked. HTTP/2 has a name of its own for it. */
export function hostOf({ headers }: IncomingMessage): string | undefined {
  const host = headers.host ?? headers[":authority"];
  return typeof host === "string" ? host.toLowerCase() : undefined;
}

/** Of a read: it changes nothing, but another site has no business to make it. */
export function checkReader({ headers }: IncomingMessage): void {
  const site = headers["sec-fetch-site"];
  if (site !== undefined && !SAFE_SITES.includes(String(site)))
    throw forbidden(`The request comes from another site (sec-fetch-site: ${site}).`);
}

/**
 * Of an act: only the page itself can have made it. A page of another site can send neither our header nor JSON without
 * being asked first (CORS), and its Origin is not ours.
 */
export function checkActor(req: IncomingMessage, origins: readonly string[]): void {
  const { headers } = req;
  if (headers[ACT_HEADER] !== "1") throw forbidden(`An act needs the header '${ACT_HEADER}: 1'.`);
  const { origin } = headers;
  if (origin === undefined) throw forbidden("An act needs the header 'origin', which every browser sends.");
  if (!isOwn(origin, hostOf(req), origins))
    throw forbidden(
      `The origin of the request (${origin}) is not the host that was asked (${hostOf(req)}). Behind a proxy: let it ` +
        "pass the header 'host' on, or name the origin in the option 'origins'."
    );
  const site = headers["sec-fetch-site"];
  if (site !== undefined && site !== "same-origin")
    throw forbidden(`The request comes from another site (sec-fetch-site: ${site}).`);
  const type = String(headers["content-type"] ?? "").split(";", 1)[0] as string;
  if (type.trim().toLowerCase() !== "application/json")
    throw badRequest("An act needs a body of the type application/json.", 415);
  if (!["identity", undefined].includes(headers["content-encoding"]))
    throw badRequest("A body that is compressed is not taken.", 415);
}

function isOwn(origin: string, host: string | undefined, origins: readonly string[]): boolean {
  const url = URL.canParse(origin) ? new URL(origin) : undefined;
  // `null` is the origin of what has none: a file, a sandboxed frame.
  if (!url || !["http:", "https:"].includes(url.protocol)) return false;
  if (origins.includes(url.origin)) return true;
  // The port that the scheme has anyway may be in one and not in the other.
  const asked = `${url.protocol}//${host}`;
  return host !== undefined && URL.canParse(asked) && new URL(asked).host === url.host;
}

const LOOPBACK = /^(localhost|.+\.localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/**
 * A name that a stranger makes point to this machine (DNS rebinding) would make his page one of our own origin. So what
 * listens on a loopback address answers to its names alone, and to those of `origins`.
 */
export function checkLoopbackHost(req: IncomingMessage, origins: readonly string[]): void {
  const host = hostOf(req);
  const address = `http://${host}`;
  const url = host !== undefined && URL.canParse(address) ? new URL(address) : undefined;
  if (url && (LOOPBACK.test(url.hostname) || origins.some(origin => new URL(origin).host === url.host))) return;
  throw forbidden(
    `The host that was asked (${host}) is no name of this machine. Behind a proxy: name the page's origin in the option 'origins'.`
  );
}

/** A JSON object, from text. */
function objectOf(what: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text, (key, at: unknown) => {
      if (key === "__proto__") throw new Error("a key that is not taken");
      return at;
    });
  } catch {
    // What JSON.parse says quotes the text.
    throw badRequest(`${what} is not JSON.`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw badRequest(`${what} is not a JSON object.`);
  return value as Record<string, unknown>;
}

/** Of `?params=<JSON>`. */
export function paramsOf(query: URLSearchParams): Record<string, unknown> {
  const [params = "{}", ...more] = query.getAll("params");
  if (more.length) throw badRequest("'params' is there more than once.");
  return objectOf("'params'", params);
}

/** The body of an act. */
export async function bodyOf(req: IncomingMessage, bodyMs = BODY_MS): Promise<Record<string, unknown>> {
  const parsed = (req as { body?: unknown }).body;
  // A middleware in front of the gateway has read it.
  if (req.readableEnded) return readBefore(parsed);
  if (Number(req.headers["content-length"]) > MAX_BODY_BYTES) throw tooLarge();
  return objectOf("The body", (await read(req, bodyMs)).toString("utf8"));
}

function readBefore(parsed: unknown): Record<string, unknown> {
  const text = JSON.stringify(parsed) ?? "";
  if (Buffer.byteLength(text) > MAX_BODY_BYTES) throw tooLarge();
  return objectOf("The body", text);
}

function read(req: IncomingMessage, bodyMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const end = (error?: HttpError) => {
      clearTimeout(timer);
      // The listener of errors stays: a connection that ends later must not end the process.
      req.off("data", take).off("end", done).off("close", gone);
      if (!error) return resolve(Buffer.concat(chunks));
      req.pause();
      reject(error);
    };
    const take = (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) return end(tooLarge());
      chunks.push(chunk);
    };
    const done = () => end();
    const gone = () => end(badRequest("The request has ended before its body."));
    const timer = setTimeout(() => end(badRequest("The body did not come in time.", 408)), bodyMs);
    req.on("data", take).on("end", done).on("close", gone).on("error", gone);
  });
}

const tooLarge = () => badRequest(`The body is larger than ${MAX_BODY_BYTES} bytes.`, 413);
