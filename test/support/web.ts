import { type IncomingHttpHeaders, request } from "node:http";
import { ACT_HEADER } from "../../src/dashboard/api";

export interface Asked {
  method?: string;
  headers?: Record<string, string | undefined>;
  body?: string;
}

export interface Answered {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  /** Of JSON. */
  json: Record<string, unknown>;
}

/** One request, as it is said here: `fetch` sets headers of its own, and forbids others. */
export function ask(port: number, path: string, { method = "GET", headers = {}, body }: Asked = {}): Promise<Answered> {
  const given = Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path, method, headers: Object.fromEntries(given), agent: false };
    const asked = request(options, answer => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const isJson = String(answer.headers["content-type"]).startsWith("application/json") && text !== "";
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          text,
          json: isJson ? JSON.parse(text) : {}
        });
      });
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

/** What the page's own script sends with an act. `undefined` leaves a header out. */
export function actHeaders(port: number, more: Record<string, string | undefined> = {}): Asked["headers"] {
  return {
    "content-type": "application/json",
    [ACT_HEADER]: "1",
    origin: `http://127.0.0.1:${port}`,
    "sec-fetch-site": "same-origin",
    ...more
  };
}

export function act(
  port: number,
  path: string,
  body: unknown,
  more: Record<string, string | undefined> = {}
): Promise<Answered> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return ask(port, path, { method: "POST", headers: actHeaders(port, more), body: text });
}

export function read(port: number, path: string, params: object, headers: Asked["headers"] = {}): Promise<Answered> {
  return ask(port, `${path}?params=${encodeURIComponent(JSON.stringify(params))}`, { headers });
}

/** The type and text of an answer that is an error. */
export function errorIn({ json }: Answered): { type: string; message: string; data?: Record<string, unknown> } {
  const { error } = json as { error?: { type: string; message: string; data?: Record<string, unknown> } };
  if (!error) throw new Error(`It is no error: ${JSON.stringify(json)}`);
  return error;
}

/** That nothing foreign runs on the page, and no other page has it. */
export const SAFE_HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin"
};
