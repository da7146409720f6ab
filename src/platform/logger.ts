/** What the library needs of a logger; Moleculer's fits. Payloads and credentials are never logged. */
export interface Logger {
  error(...args: unknown[]): void;
  warn(...args: unknown[]): void;
  info(...args: unknown[]): void;
  debug(...args: unknown[]): void;
}
