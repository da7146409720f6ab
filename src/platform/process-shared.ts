import { ReliableError } from "../errors";

/** The version of this package; a test compares it with package.json. */
export const VERSION = "0.1.0";

/**
 * What all copies of this package in one process share, by name: npm may install one copy per dependent. It is kept
 * under a registered symbol, since each copy has its own modules.
 */
export function processShared<V>(name: string): Map<string, V> {
  const key = Symbol.for(`moleculer-reliable-emit.${name}`);
  const holder = globalThis as unknown as Record<symbol, Map<string, V>>;
  return (holder[key] ??= new Map());
}

/**
 * Copies of one version work as one. Two versions do not know each other's internals. Throws RELIABLE_WRONG_VERSION.
 */
export function sameVersion(version: string, what: string): void {
  if (version === VERSION) return;
  throw new ReliableError(
    "RELIABLE_WRONG_VERSION",
    `${what} is in the hands of moleculer-reliable-emit ${version}, and this copy is ${VERSION}: one process needs one version of it (npm ls moleculer-reliable-emit).`,
    { versions: [version, VERSION] }
  );
}
