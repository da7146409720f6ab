import { ReliableError } from "../errors";

/** Of this package; a test compares it with package.json. */
export const VERSION = "0.1.0";

/**
 * What all copies of this package in one process share, by name: npm may install one per dependent. Under a registered
 * symbol, since each copy has modules of its own.
 */
export function processShared<V>(name: string): Map<string, V> {
  const key = Symbol.for(`moleculer-reliable-emit.${name}`);
  const holder = globalThis as unknown as Record<symbol, Map<string, V>>;
  return (holder[key] ??= new Map());
}

/** Copies of one version work as one; those of two do not know each other's insides. Throws RELIABLE_WRONG_VERSION. */
export function sameVersion(version: string, what: string): void {
  if (version === VERSION) return;
  throw new ReliableError(
    "RELIABLE_WRONG_VERSION",
    `${what} is in the hands of moleculer-reliable-emit ${version}, and this copy is ${VERSION}: one process needs one version of it (npm ls moleculer-reliable-emit).`,
    { versions: [version, VERSION] }
  );
}
