import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { uuidv7 } from "uuidv7";
import { afterAll } from "vitest";
import { type Clock, systemClock } from "../../src/platform/clock";
import type { Logger } from "../../src/platform/logger";
import { EmbeddedStore } from "../../src/stores/embedded/store";
import { silent } from "./messages";

/** Makes folders that do not exist yet, in one that is removed after the tests of the file. */
export function folders({ memory = false } = {}): () => string {
  // There fsync costs nothing, for what opens thousands of files.
  const root = mkdtempSync(join(memory && existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "reliable-embedded-"));
  afterAll(() => rmSync(root, { recursive: true }));
  return () => join(root, uuidv7(), "made", "for it");
}

export function storeAt(
  path: string | undefined,
  namespace = "",
  { logger = silent, clock = systemClock }: { logger?: Logger; clock?: Clock } = {}
): EmbeddedStore {
  return new EmbeddedStore({ path, namespace, logger, clock });
}

export async function using<T>(store: EmbeddedStore, work: (store: EmbeddedStore) => Promise<T>): Promise<T> {
  await store.start();
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

export const messagesFile = (folder: string) => join(folder, "reliable.messages.db");
export const lockFile = (folder: string) => join(folder, "reliable.lock");

/** A logger that keeps what it is told, as `level: text`. */
export function recorder(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const add = (level: string) => (text: unknown) => void lines.push(`${level}: ${text}`);
  return { lines, logger: { error: add("error"), warn: add("warn"), info: add("info"), debug: () => undefined } };
}
