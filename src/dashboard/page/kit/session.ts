import { signal } from "@preact/signals";
import type { Act, Session } from "../../api";
import { shell } from "../texts/shell";
import { type ApiFailure, api, failureOf } from "./api";

/** Who looks, and at what. undefined until the server has told. */
export const session = signal<Session | undefined>(undefined);

export const sessionFailure = signal<ApiFailure | undefined>(undefined);

/** What is refused now may have been allowed a minute ago: rights are asked for anew. */
export async function readSession(): Promise<void> {
  try {
    session.value = await api.session();
    sessionFailure.value = undefined;
  } catch (error) {
    sessionFailure.value = failureOf(error);
  }
}

const WELL_MS = 60_000;
const FAILED_MS = 5000;

/** Asks again and again: rights are given and taken, and a server comes back. */
export function followSession(): void {
  const look = async () => {
    await readSession();
    setTimeout(look, sessionFailure.value ? FAILED_MS : WELL_MS);
  };
  void look();
}

/** Why this user may not do it; undefined = may. The server decides: this only tells beforehand. */
export function whyNot(act: Act): string | undefined {
  const known = session.value;
  if (!known) return shell.rightsUnknown;
  if (known.acts.includes(act)) return undefined;
  return known.acts.length ? shell.mayNot(act) : shell.readOnlyReason;
}
