import { ReliableError } from "../src/errors";

/** The first with all that is needed of `merged`, `broadcastLocal` and the event context. */
const OLDEST = [0, 14, 12] as const;

/** Throws RELIABLE_WRONG_VERSION; npm only warns of a peer that does not fit. */
export function checkMoleculer(version: string | undefined): void {
  const numbers = version?.split(/[.-]/, 3).map(Number);
  if (!numbers || numbers.some(Number.isNaN)) return;
  const at = OLDEST.findIndex((oldest, i) => numbers[i] !== oldest);
  if (at < 0 || (numbers[at] as number) > (OLDEST[at] as number)) return;
  throw new ReliableError(
    "RELIABLE_WRONG_VERSION",
    `moleculer-reliable-emit needs Moleculer ${OLDEST.join(".")} or newer; this is ${version}.`,
    { moleculer: version }
  );
}
