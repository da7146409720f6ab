import { ReliableError } from "../errors";
import { checkId } from "../wire/envelope";

/** Options of one `reliableCancel`. All optional. */
export interface CancelOptions {
  /** Why; kept with the act, up to 2,000 characters. @default "no reason given" */
  note?: string;
  /** The context that it is done in: its user is recorded as who has done it. @default the service */
  ctx?: unknown;
}

const MAX_NOTE = 2000;

/** Throws RELIABLE_BAD_OPTION. */
export function checkCancel(id: unknown, { note, ctx: _any, ...others }: CancelOptions): asserts id is string {
  checkId(id as string);
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw new ReliableError("RELIABLE_BAD_OPTION", `reliableCancel has no option '${unknown}': note, ctx.`, {
      option: unknown
    });
  if (note !== undefined && (typeof note !== "string" || note.length > MAX_NOTE))
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The option 'note' of reliableCancel must be a text of up to ${MAX_NOTE} characters.`,
      { option: "note" }
    );
}
