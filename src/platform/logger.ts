import { printable, printableLines } from "./printable";

/** The methods of a logger that the library uses; Moleculer's has them. Payloads and credentials are never logged. */
export interface Logger {
  error(...args: unknown[]): void;
  warn(...args: unknown[]): void;
  info(...args: unknown[]): void;
  debug(...args: unknown[]): void;
}

/** A logger through which no text of others reaches the log raw. */
export function printableLogger(logger: Logger): Logger {
  const clean = (arg: unknown) =>
    typeof arg === "string" ? printable(arg) : arg instanceof Error ? printableLines(arg.stack ?? String(arg)) : arg;
  return {
    error: (...args) => logger.error(...args.map(clean)),
    warn: (...args) => logger.warn(...args.map(clean)),
    info: (...args) => logger.info(...args.map(clean)),
    debug: (...args) => logger.debug(...args.map(clean))
  };
}
