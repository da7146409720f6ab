import { ACT_HEADER, type ApiError, type Session } from "../../api";
import { kit as words } from "../texts/kit";
import type { ActAnswer, ActBody, ActName, Answer, ReadName, ReadParams, ReadsOfOne, Wire } from "./api-types";

export type * from "./api-types";

/** The reads of the server answer within some seconds; an act waits for consumers to stop, or for 500 messages. */
const READ_MS = 20_000;
const ACT_MS = 60_000;

/** The server, or what stands before it, has not answered, or not as asked. */
export class ApiFailure extends Error {
  override readonly name = "ApiFailure";

  constructor(
    /** As of the server: `RELIABLE_NOT_FOUND`; or `NETWORK`, `NO_JSON`. */
    readonly type: string,
    message: string,
    /** Of HTTP; 0 = there was no answer. */
    readonly status: number,
    readonly data: Record<string, unknown> = {}
  ) {
    super(message);
  }
}

/** Whatever was thrown, as what an operator is told. */
export function failureOf(error: unknown): ApiFailure {
  if (error instanceof ApiFailure) return error;
  return new ApiFailure("PAGE", error instanceof Error ? error.message : String(error), 0);
}

/** Relative to the page: nothing here knows under which prefix that stands. */
async function ask<T>(path: string, init: RequestInit, withinMs: number, signal?: AbortSignal): Promise<T> {
  const timeout = AbortSignal.timeout(withinMs);
  let response: Response;
  let text: string;
  try {
    const ends = signal ? AbortSignal.any([signal, timeout]) : timeout;
    response = await fetch(`api/${path}`, { ...init, signal: ends, credentials: "same-origin" });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiFailure("NETWORK", timeout.aborted ? words.noAnswerWithin(withinMs) : words.noAnswer, 0);
  }
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ApiFailure("NO_JSON", words.notJson(response.status), response.status);
  }
  if (response.ok) return body as T;
  const { error } = (body ?? {}) as Partial<ApiError>;
  throw new ApiFailure(
    error?.type ?? "UNKNOWN",
    error?.message ?? words.status(response.status),
    response.status,
    error?.data
  );
}

const query = (params: object) => `?params=${encodeURIComponent(JSON.stringify(params))}`;

export const api = {
  session: (signal?: AbortSignal): Promise<Session> => ask("session", {}, READ_MS, signal),

  read: <N extends ReadName>(name: N, params: ReadParams<N>, signal?: AbortSignal): Promise<Answer<N>> =>
    ask(`${name}${query(params)}`, {}, READ_MS, signal),

  /** All of one. */
  readOne: <N extends keyof ReadsOfOne>(name: N, id: string, signal?: AbortSignal): Promise<Wire<ReadsOfOne[N]>> =>
    ask(`${name}${query({ id })}`, {}, READ_MS, signal),

  act: <N extends ActName>(name: N, body: ActBody<N>): Promise<ActAnswer<N>> =>
    ask(
      name,
      {
        method: "POST",
        headers: { "content-type": "application/json", [ACT_HEADER]: "1" },
        body: JSON.stringify(body)
      },
      ACT_MS
    )
};
