import { mkdir, readFile, rename, stat, unlink, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { threadId } from "node:worker_threads";
import { uuidv7 } from "uuidv7";
import { ReliableError } from "../../errors";
import type { Clock, Timer } from "../../platform/clock";

/** The owner touches the file this often … */
const TOUCH_MS = 5000;

/**
 * … so that one untouched for this long belongs to a dead process, also on another machine. Longer than any normal
 * pause of an event loop.
 */
const STALE_MS = 60_000;

/** A file without a readable owner and younger than this: its owner has created it and is still writing. */
const WRITE_MS = 1000;
/** How often such a file is read again. */
const LOOK_MS = 20;

/** Locks of this thread, also of another copy of this module in it. */
const HELD = ((globalThis as { [key: symbol]: Set<string> | undefined })[
  Symbol.for("moleculer-reliable-emit.locks")
] ??= new Set<string>());

interface Owner {
  pid: number;
  thread: number;
  host: string;
  token: string;
}

/**
 * Keeps a second process out of a folder: NeDB holds all data in memory, so two processes would overwrite each other's.
 * A lock of this machine is stale as soon as its process is gone (or had this pid, in a container that was restarted).
 */
export class FileLock {
  readonly #touch: Timer;

  private constructor(
    private readonly file: string,
    private readonly owner: Owner,
    clock: Clock
  ) {
    this.#touch = clock.every(TOUCH_MS, () => {
      const now = new Date(clock.now());
      utimes(file, now, now).catch(() => this.#touch.stop());
    });
  }

  static async acquire(file: string, clock: Clock): Promise<FileLock> {
    const owner: Owner = { pid: process.pid, thread: threadId, host: hostname(), token: uuidv7() };
    await mkdir(dirname(file), { recursive: true });
    for (;;) {
      try {
        await writeFile(file, JSON.stringify(owner), { flag: "wx" });
        HELD.add(file);
        return new FileLock(file, owner, clock);
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
      }
      const holder = await readOwner(file);
      if (!holder && (await age(file, clock)) < WRITE_MS) {
        await clock.sleep(LOOK_MS);
        continue;
      }
      if (holder && (await isAlive(file, holder, clock))) {
        throw new ReliableError(
          "RELIABLE_BAD_OPTION",
          `The embedded store's folder is in use by process ${holder.pid} on ${holder.host} (${file}). One process only; use MongoDB for more.`,
          { option: "path", file }
        );
      }
      await takeAway(file, owner.token);
    }
  }

  async release(): Promise<void> {
    this.#touch.stop();
    const holder = await readOwner(this.file);
    if (holder?.token === this.owner.token) await unlink(this.file);
    HELD.delete(this.file);
  }
}

/** Renamed, not unlinked: of two processes that find the same stale lock only one succeeds. */
async function takeAway(file: string, token: string): Promise<void> {
  const aside = `${file}.${token}`;
  try {
    await rename(file, aside);
    await unlink(aside);
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

async function isAlive(file: string, { pid, thread, host }: Owner, clock: Clock): Promise<boolean> {
  if (host === hostname()) {
    if (pid === process.pid && thread === threadId) return HELD.has(file);
    try {
      process.kill(pid, 0);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === "ESRCH") return false;
    }
  }
  return (await age(file, clock)) < STALE_MS;
}

/** ms since the file was last written or touched; Infinity = there is none. */
async function age(file: string, clock: Clock): Promise<number> {
  const seen = await stat(file).catch(() => undefined);
  return seen ? clock.now() - seen.mtimeMs : Number.POSITIVE_INFINITY;
}
