import { signal } from "@preact/signals";

/** Why one was retried first: the reason for the others too. */
export const carriedNote = signal<string | undefined>(undefined);
