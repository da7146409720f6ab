import { ReliableError, ReliableRetryableError } from "../errors";
import type { EmitItem, EmitOptions } from "./emit-options";
import type { EmitOutcome, EmitResult } from "./strategy";

/** A transaction that emits are stored in. */
export interface Joined {
  /** Nothing of it is to be committed. */
  fail(error: unknown): unknown;
  /** It is not committed before this has ended. */
  join?<T>(work: Promise<T>): Promise<T>;
}

/** So many can be stored in one transaction, and wait in memory, whatever they are. */
export const MAX_ITEMS = 1000;

export interface ManyParts {
  /** Rejects with what is wrong with an emit, and stores nothing. */
  check(event: string, payload: unknown, options: EmitOptions): Promise<void>;
  emit(event: string, payload: unknown, options: EmitOptions): Promise<EmitResult>;
  /** The transaction that all of them are to be in. */
  joined: Joined | undefined;
}

/**
 * Emits all at once: what the store takes goes there in one command. In a transaction all are stored or none: what is
 * wrong with one is found before anything is stored, and what fails later fails the transaction.
 *
 *   process dies before the answer   of each it is as of a single emit; in a transaction as its commit decides
 */
export async function emitMany(items: EmitItem[], shared: EmitOptions, parts: ManyParts): Promise<EmitOutcome[]> {
  checkItems(items, shared);
  const { check, emit, joined } = parts;
  const all = items.map(({ event, payload, ...own }) => ({ event, payload, options: { ...shared, ...own } }));
  if (joined)
    for (const [index, { event, payload, options }] of all.entries())
      await check(event, payload, options).catch(thrown => Promise.reject(named(thrown, index)));
  const outcomes = await Promise.allSettled(all.map(({ event, payload, options }) => emit(event, payload, options)));
  const failed = outcomes.flatMap((outcome, index) => (outcome.status === "rejected" ? { outcome, index } : []));
  if (!joined || !failed.length) return outcomes;
  // The first one is why; the others may say that the transaction is over by that.
  const [{ outcome, index }] = failed as [(typeof failed)[0]];
  await joined.fail(outcome.reason);
  throw named(outcome.reason, index);
}

function checkItems(items: EmitItem[], shared: EmitOptions): void {
  const refuse = (why: string, index?: number): never => {
    throw new ReliableError("RELIABLE_BAD_OPTION", `reliableEmitMany takes ${why}.`, {
      option: "items",
      ...(index !== undefined && { index })
    });
  };
  if (!Array.isArray(items)) refuse("a list of { event, payload, … }");
  if (items.length > MAX_ITEMS) refuse(`at most ${MAX_ITEMS} items, not ${items.length}`);
  if (shared?.id !== undefined) refuse("the 'id' of each item in it, not one for all");
  for (const [index, item] of items.entries()) {
    if (typeof item !== "object" || item === null || Array.isArray(item))
      refuse(`items that are { event, payload, … }; item ${index} is not`, index);
    if ("session" in item)
      refuse(`the 'session' for all items, in its second argument; item ${index} has one of its own`, index);
  }
}

/** An error of a driver stays as it is: `withTransaction` repeats by it. */
function named(thrown: unknown, index: number): unknown {
  if (thrown instanceof ReliableError || thrown instanceof ReliableRetryableError)
    Object.assign(thrown.data as object, { index });
  return thrown;
}
