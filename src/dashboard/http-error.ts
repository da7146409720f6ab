import { API_ERRORS } from "./api";

/** An answer that is not what was asked for, with its status. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    message: string,
    readonly headers: Record<string, string> = {}
  ) {
    super(message);
  }
}

export const forbidden = (message: string): HttpError => new HttpError(403, API_ERRORS.forbidden, message);

export const badRequest = (message: string, status = 400): HttpError =>
  new HttpError(status, API_ERRORS.badRequest, message);

/** Nobody has logged in, or not with a right password. `headers`: how to. */
export const unauthenticated = (headers: Record<string, string> = {}): HttpError =>
  new HttpError(
    401,
    API_ERRORS.unauthenticated,
    "Nobody has logged in, or not as somebody who is known here.",
    headers
  );
