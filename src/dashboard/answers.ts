import type { IncomingMessage, ServerResponse } from "node:http";
import { reasonOf } from "../errors";
import { printable } from "../platform/printable";
import { API_ERRORS, type ApiError } from "./api";
import type { Asset } from "./assets";
import { HttpError } from "./http-error";

/** On every answer. Nothing but the page's own files runs, and no other page may hold or read it. */
const HEADERS: Record<string, string> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin"
};

const MAX_MESSAGE = 2000;
const MAX_TYPE = 100;

/** By error type; else 500. */
const STATUSES = new Map<string, number>([
  ...["RELIABLE_BAD_OPTION", "VALIDATION_ERROR"].map(type => [type, 400] as const),
  ["RELIABLE_NOT_FOUND", 404],
  ...["RELIABLE_ILLEGAL_TRANSITION", "RELIABLE_GROUP_ACTIVE", "RELIABLE_BULK_RUNNING"].map(
    type => [type, 409] as const
  ),
  // A server, or the service `reliable`, is away, or not there yet.
  ...["SERVICE_NOT_FOUND", "SERVICE_NOT_AVAILABLE", "REQUEST_TIMEOUT", "REQUEST_REJECTED", "REQUEST_SKIPPED"]
    .concat(["QUEUE_FULL", "RELIABLE_UNAVAILABLE", "RELIABLE_OUTCOME_UNKNOWN", "RELIABLE_NOT_STORED"])
    .concat(["RELIABLE_NO_STORE", "RELIABLE_NOT_STARTED", "RELIABLE_STOPPED", "RELIABLE_LOCK_LOST"])
    .map(type => [type, 503] as const)
]);

interface Answer {
  status: number;
  type?: string;
  body?: Buffer | string;
  headers?: Record<string, string>;
}

function send(req: IncomingMessage, res: ServerResponse, { status, type, body = "", headers = {} }: Answer): void {
  // Whoever asked has gone, or somebody before us has answered.
  if (res.headersSent || res.destroyed) return;
  const bytes = Buffer.from(body);
  res.statusCode = status;
  for (const [name, value] of Object.entries({ ...HEADERS, ...headers })) res.setHeader(name, value);
  if (type !== undefined) res.setHeader("content-type", type);
  if (status !== 304 && status !== 204) res.setHeader("content-length", bytes.length);
  // What was not read of a request must not be taken for the next one.
  if (!req.complete && hasBody(req)) res.setHeader("connection", "close");
  res.end(req.method === "HEAD" ? undefined : bytes);
}

const hasBody = ({ headers }: IncomingMessage) =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;

export function sendAsset(req: IncomingMessage, res: ServerResponse, asset: Asset): void {
  const headers = { etag: asset.etag, "cache-control": "no-cache", vary: "accept-encoding" };
  const known = String(req.headers["if-none-match"] ?? "").split(/\s*,\s*/);
  if (known.includes(asset.etag)) {
    send(req, res, { status: 304, headers });
    return;
  }
  const zipped = /\bgzip\b/.test(String(req.headers["accept-encoding"] ?? ""));
  send(req, res, {
    status: 200,
    type: asset.type,
    body: zipped ? asset.gzipped : asset.body,
    headers: zipped ? { ...headers, "content-encoding": "gzip" } : headers
  });
}

export function sendJson(
  req: IncomingMessage,
  res: ServerResponse,
  value: unknown,
  { status = 200, headers = {} }: { status?: number; headers?: Record<string, string> } = {}
): void {
  send(req, res, {
    status,
    type: "application/json; charset=utf-8",
    body: JSON.stringify(value ?? null),
    headers: { "cache-control": "no-store", ...headers }
  });
}

/** Without a body. */
export function sendBare(
  req: IncomingMessage,
  res: ServerResponse,
  status: number,
  headers: Record<string, string>
): void {
  send(req, res, { status, headers: { "cache-control": "no-store", ...headers } });
}

/** Returns the status. */
export function sendError(req: IncomingMessage, res: ServerResponse, thrown: unknown): number {
  const { status, headers = {}, ...error } = thrown instanceof HttpError ? ofHttp(thrown) : ofAction(thrown);
  sendJson(req, res, { error } satisfies ApiError, { status, headers });
  return status;
}

type Told = ApiError["error"] & { status: number; headers?: Record<string, string> };

const ofHttp = ({ status, type, message, headers }: HttpError): Told => ({ status, type, message, headers });

/** What a call of an action rejects with: over a transporter it is a copy, known by its type. */
function ofAction(thrown: unknown): Told {
  const { type, data } = (thrown instanceof Error ? thrown : {}) as { type?: unknown; data?: unknown };
  const message = printable(reasonOf(thrown)).slice(0, MAX_MESSAGE);
  if (type === "VALIDATION_ERROR") return { status: 400, type, message: validationText(data) ?? message };
  if (typeof type !== "string") return { status: 500, type: API_ERRORS.internal, message };
  const status = STATUSES.get(type) ?? 500;
  // Of what is ours it is known what is in it.
  const told = type.startsWith("RELIABLE_") ? jsonOf(data) : undefined;
  return { status, type: printable(type).slice(0, MAX_TYPE), message, ...(told && { data: told }) };
}

/** Moleculer's own message names no field. */
function validationText(data: unknown): string | undefined {
  const texts = [data].flat().flatMap(each => {
    const text = (each as { message?: unknown } | null | undefined)?.message;
    return typeof text === "string" ? [text] : [];
  });
  return texts.length ? printable([...new Set(texts)].join(" ")).slice(0, MAX_MESSAGE) : undefined;
}

/** What is no JSON is left out: the answer to an error must not be one. */
function jsonOf(data: unknown): Record<string, unknown> | undefined {
  if (typeof data !== "object" || data === null || Array.isArray(data)) return undefined;
  try {
    return JSON.parse(JSON.stringify(data)) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** What a gateway's own steps throw before the page is asked: authentication, authorization, a limit of requests. */
export function gatewayError(thrown: unknown): unknown {
  const { code, type, message } = (thrown ?? {}) as { code?: unknown; type?: unknown; message?: unknown };
  if (typeof code !== "number" || code < 400 || code > 499) return thrown;
  const named = code === 401 ? API_ERRORS.unauthenticated : code === 403 ? API_ERRORS.forbidden : undefined;
  const text = printable(typeof message === "string" ? message : "Refused.").slice(0, MAX_MESSAGE);
  return new HttpError(code, named ?? (typeof type === "string" && type ? type : API_ERRORS.badRequest), text);
}
