import { ReliableError } from "../errors";

/** A day, or a day and a time. Of a time without a zone JavaScript would take that of its process. */
const ISO = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(?:(Z)|([+-]\d\d):?(\d\d)?)?)?$/i;

/**
 * ISO text, in UTC where it names no zone, as all that is shown; or ms since 1970, as text too. Throws
 * RELIABLE_BAD_OPTION.
 */
export function instantOf(option: string, given: Date | number | string): Date {
  const at = new Date(typeof given === "string" ? msOf(given) : given);
  if (!Number.isNaN(at.getTime())) return at;
  throw new ReliableError(
    "RELIABLE_BAD_OPTION",
    `'${option}' must be an instant: 2026-11-26T03:02:00Z (UTC where no zone is given), or ms since 1970.`,
    { option }
  );
}

function msOf(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  const [, day, time = "00:00", , hours, minutes = "00"] = ISO.exec(text) ?? [];
  return Date.parse(`${day}T${time}${hours === undefined ? "Z" : `${hours}:${minutes}`}`);
}
