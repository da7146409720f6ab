import { readFile, rename, stat, unlink, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { threadId } from "node:worker_threads";
import { ReliableError } from "../../errors";
import type { Clock, Timer } from "../../platform/clock";
import { newId } from "../../platform/ids";
import type { Logger } from "../../platform/logger";
import { FILE_MODE, type Ownership } from "./data-file";
import { type ProcessIdentity, processIdentity, processOf } from "./process-identity";

/** The owner touches the file this often … */
const TOUCH_MS = 5000;

/**
 * … so that one untouched for this long belongs to a dead process, where the process itself cannot be looked at. Longer
 * than any normal pause of an event loop. Whoever sleeps longer finds out before it writes, see `check`.
 */
const STALE_MS = 60_000;

/** A file without a readable owner and younger than this: its owner has created it and is still writing. */
const WRITE_MS = 1000;
/** How often such a file is read again. */
const LOOK_MS = 20;

/** How often a missing lock is looked for: one who took it by mistake puts it back at once (`takeAway`). */
const LOOKS = 5;

/** Tokens of the locks of this thread, also of another copy of this module in it. */
const HELD = ((globalThis as { [key: symbol]: Set<string> | undefined })[
  Symbol.for("moleculer-reliable-emit.locks")
] ??= new Set<string>());

/** How often a lock is looked at whose owner cannot be. */
const WATCH_MS = 500;

/** What a lock needs of the store that takes it. */
export interface LockParts {
  clock: Clock;
  logger: Logger;
  onLost(error: Error): void;
}

interface Owner {
  pid: number;
  thread: number;
  host: string;
  token: string;
  /** Where the system tells it. */
  process?: ProcessIdentity;
}

/**
 * Keeps a second process out of a folder: all data is in memory, so two processes would overwrite each other's.
 *
 * A lock is kept as long as its process lives, stopped or not, where the system can tell; else as long as it is touched.
 * So a process that was paused may find its folder taken. `check` stands before each write and after it: what was on the
 * disk while the lock was there is read by the next owner, and only that is confirmed.
 */
export class FileLock implements Ownership {
  readonly #touch: Timer;
  #lost: ReliableError | undefined;

  private constructor(
    private readonly file: string,
    private readonly owner: Owner,
    private readonly clock: Clock,
    private readonly onLost: (error: Error) => void
  ) {
    HELD.add(owner.token);
    // A failed touch is tried again with the next. Another's lock is never touched: it would outlive its owner.
    this.#touch = clock.every(TOUCH_MS, () => void this.#keep().catch(() => undefined));
  }

  get token(): string {
    return this.owner.token;
  }

  static async acquire(file: string, { clock, logger, onLost }: LockParts): Promise<FileLock> {
    let waitedFor: number | undefined;
    const token = newId();
    const process_ = await processIdentity();
    const owner: Owner = { pid: process.pid, thread: threadId, host: hostname(), token, process: process_ };
    for (;;) {
      try {
        await writeFile(file, JSON.stringify(owner), { flag: "wx", mode: FILE_MODE });
        return new FileLock(file, owner, clock, onLost);
      } catch (thrown) {
        const { code } = thrown as NodeJS.ErrnoException;
        if (code !== "EEXIST") {
          // A full disk takes the name and not the text.
          if (code === "ENOSPC" || code === "EDQUOT") await unlink(file).catch(() => undefined);
          throw thrown;
        }
      }
      const holder = await readOwner(file);
      if (!holder && clock.now() - ((await touched(file)) ?? 0) < WRITE_MS) {
        await clock.sleep(LOOK_MS);
        continue;
      }
      const life = holder ? await lifeOf(holder, owner) : "dead";
      const touchedAt = life === "unknown" ? await touched(file) : undefined;
      if (touchedAt !== undefined && touchedAt === waitedFor && clock.now() - touchedAt < STALE_MS) {
        await clock.sleep(WATCH_MS);
        continue;
      }
      // Its owner may be dead, and its machine have come back quicker than the lock gets old.
      if (holder && touchedAt !== undefined && waitedFor === undefined && clock.now() - touchedAt < STALE_MS) {
        waitedFor = touchedAt;
        logger.warn(
          `Reliable: ${file} is of process ${holder.pid} on ${holder.host}, which cannot be looked at from here. The start waits until it is touched, or for ${STALE_MS / 1000} s after its last touch.`
        );
        continue;
      }
      if (holder && (life === "alive" || (touchedAt !== undefined && clock.now() - touchedAt < STALE_MS))) {
        throw new ReliableError(
          "RELIABLE_BAD_OPTION",
          `The embedded store's folder is in use by process ${holder.pid} on ${holder.host} (${file}). One process only; use MongoDB for more.`,
          { option: "path", file }
        );
      }
      await takeAway(file, holder?.token, token);
    }
  }

  /** Rejects with RELIABLE_LOCK_LOST, from then on at once; with the file system's error if it cannot be known now. */
  async check(): Promise<void> {
    for (let look = 1; !this.#lost; look++) {
      const holder = await readOwner(this.file);
      if (holder?.token === this.owner.token) return;
      if (!holder && look < LOOKS) await this.clock.sleep(LOOK_MS);
      else this.#lose(holder);
    }
    throw this.#lost;
  }

  /** Never rejects: the lock of a process that is gone, or does not touch it any more, keeps nobody out. */
  async release(): Promise<void> {
    this.#touch.stop();
    try {
      const holder = await readOwner(this.file);
      if (holder?.token === this.owner.token) await unlink(this.file);
    } catch {
      // The next owner finds it and sees that nobody holds it.
    } finally {
      HELD.delete(this.owner.token);
    }
  }

  async #keep(): Promise<void> {
    await this.check();
    const now = new Date(this.clock.now());
    await utimes(this.file, now, now);
  }

  #lose(holder: Owner | undefined): void {
    if (this.#lost) return;
    this.#touch.stop();
    const who = holder ? `process ${holder.pid} on ${holder.host} has it` : "somebody has deleted it";
    const { file } = this;
    this.#lost = new ReliableError(
      "RELIABLE_LOCK_LOST",
      `The embedded store has lost its lock ${file}: ${who}. This process was paused for too long, or the file was touched by others. It writes nothing any more; restart it.`,
      { file, pid: holder?.pid, host: holder?.host }
    );
    this.onLost(this.#lost);
  }
}

/**
 * Of several processes that find the same stale lock one succeeds. The rename of a slower one may take the new lock of a
 * quicker one instead: it is put back.
 */
async function takeAway(file: string, stale: string | undefined, token: string): Promise<void> {
  const aside = `${file}.${token}`;
  try {
    if ((await readOwner(file))?.token !== stale) return;
    await rename(file, aside);
    const taken = await readOwner(aside);
    if (taken && taken.token !== stale) await rename(aside, file);
    else await unlink(aside);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "ENOENT") throw thrown;
  }
}

async function readOwner(file: string): Promise<Owner | undefined> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as Owner;
  } catch (thrown) {
    // Gone in the meantime, still being written, or torn by a crash.
    if (thrown instanceof SyntaxError || (thrown as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw thrown;
  }
}

/** Unknown: it is alive as long as it touches the lock. */
async function lifeOf(
  { pid, thread, host, token, ...holder }: Owner,
  own: Owner
): Promise<"alive" | "dead" | "unknown"> {
  const sameSystem = holder.process && own.process && holder.process.system === own.process.system;
  if (!sameSystem && (holder.process || host !== own.host)) return "unknown";
  if (pid === own.pid && thread === own.thread) return HELD.has(token) ? "alive" : "dead";
  const there = await processOf(pid);
  if (there === "none") return "dead";
  // Its pid may be another's by now. Threads end without their process, so theirs go by the touch.
  if (!sameSystem || pid === own.pid || there === "unknown") return "unknown";
  return there.startedAt === holder.process?.startedAt ? "alive" : "dead";
}

/** When the file was last written or touched; undefined = there is none. */
async function touched(file: string): Promise<number | undefined> {
  return (await stat(file).catch(() => undefined))?.mtimeMs;
}
