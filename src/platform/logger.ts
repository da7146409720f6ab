/** The methods of a logger that the library uses; Moleculer's has them. Payloads and credentials are never logged. */
export interface Logger {
  error(...args: unknown[]): void;
  warn(...args: unknown[]): void;
  info(...args: unknown[]): void;
  debug(...args: unknown[]): void;
}
