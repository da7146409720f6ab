import { type FileHandle, open, readdir, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Doc } from "../documents/collection";
import { type Rows, readLines, toLine } from "./lines";

/** Payloads and meta are nobody's business but of the user whose process it is. */
export const FILE_MODE = 0o600;

/** Bytes per write of a copy: few enough to leave the event loop to others in between. */
const CHUNK_BYTES = 1024 * 1024;

/** A copy that leaves less than this on the disk is given up: what is to be appended goes before it. */
const ROOM_BYTES = 1024 * 1024;

/** As much as is tried to find out whether there is room again. */
const MAX_TRY_BYTES = 1024 * 1024;

/** The right to the folder, see `FileLock`. */
export interface Ownership {
  readonly token: string;
  /** Rejects when the folder is not ours (any more). */
  check(): Promise<void>;
}

export interface OpenedFile {
  file: DataFile;
  rows: Rows;
  /** What a crash in mid-write has left at the end: where it was put, or why that was not possible. */
  torn?: { kept?: string; reason?: string };
  /** Why the file could not be written anew. */
  notRewritten?: Error;
}

/**
 * Rows as lines of JSON; the last line of a row counts. What is written is on the disk when `write` resolves, or the
 * file is as it was. One call at a time.
 *
 * Each opening makes a new file in place of the old one. A process that has lost the folder without knowing it still
 * holds the old one, and what it writes there disturbs nobody (where the disk has no room for a new file, the lock alone
 * keeps it out).
 */
export class DataFile {
  #length: number;
  /** Bytes of a failed write may stand behind `#length`. */
  #excess = false;
  /** The folder's entry may still be the file before the last copy. */
  #renamed = false;
  /** Bytes of the last write that failed. */
  #failed = 0;

  private constructor(
    readonly path: string,
    private readonly owner: Ownership,
    private handle: FileHandle,
    length: number
  ) {
    this.#length = length;
  }

  static async open(path: string, owner: Ownership): Promise<OpenedFile> {
    await deleteCopies(path);
    const handle = await open(path, "a+", FILE_MODE);
    let opened: OpenedFile | undefined;
    try {
      await handle.chmod(FILE_MODE);
      const { rows, length, tail } = await readLines(handle, path);
      opened = { file: new DataFile(path, owner, handle, length), rows };
      if (tail.length) {
        opened.torn = await keep(`${path}.torn`, tail);
        await handle.truncate(length);
      }
      opened.notRewritten = await opened.file.rewrite(rows.values()).then(
        () => undefined,
        thrown => {
          if (isFull(thrown)) return thrown as Error;
          throw thrown;
        }
      );
      return opened;
    } catch (thrown) {
      await (opened?.file ?? handle).close();
      throw thrown;
    }
  }

  /** `rows`: all of them, for a file that somebody has deleted or replaced. */
  async write(lines: string, rows: () => Iterable<Doc>): Promise<void> {
    await this.owner.check();
    if (await this.#inPlace()) await this.#append(Buffer.from(lines));
    else await this.rewrite(rows());
  }

  /** Rejects while what failed before would fail again. */
  async tryAgain(rows: () => Iterable<Doc>): Promise<void> {
    await this.owner.check();
    if (!(await this.#inPlace())) return this.rewrite(rows());
    const bytes = Math.min(this.#failed, MAX_TRY_BYTES);
    // Empty lines mean nothing, so a process that dies here has done no harm.
    await this.#append(Buffer.alloc(bytes, "\n"));
    this.#length -= bytes;
    await this.#cutBack();
  }

  /** Writes a copy with these rows alone and puts it in place. Whatever fails before that leaves the file as it is. */
  async rewrite(rows: Iterable<Doc>): Promise<void> {
    const copy = `${this.path}.${this.owner.token}~`;
    let handle: FileHandle | undefined;
    let length = 0;
    try {
      handle = await open(copy, "ax+", FILE_MODE);
      for (const chunk of chunksOf(rows)) {
        await assertRoom(dirname(copy), chunk.length);
        await handle.appendFile(chunk);
        length += chunk.length;
      }
      await handle.sync();
      await this.owner.check();
      // One who has taken the folder since has deleted the copy, and this fails.
      await rename(copy, this.path);
    } catch (thrown) {
      await handle?.close();
      await rm(copy, { force: true });
      throw thrown;
    }
    const old = this.handle;
    this.handle = handle;
    this.#length = length;
    this.#excess = false;
    this.#renamed = true;
    await old.close();
    await this.#syncFolder();
    await this.owner.check();
    this.#failed = 0;
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  async #append(bytes: Buffer): Promise<void> {
    try {
      if (this.#excess) await this.#cutBack();
      if (this.#renamed) await this.#syncFolder();
      this.#excess = true;
      await this.handle.appendFile(bytes);
      await this.handle.datasync();
      // The next owner reads what was on the disk while the folder was ours; what came later is no promise.
      await this.owner.check();
      this.#excess = false;
      this.#length += bytes.length;
      this.#failed = 0;
    } catch (thrown) {
      this.#failed = bytes.length;
      // Half a line must not stay: the next one would continue it. A full disk does not prevent this.
      await this.owner
        .check()
        .then(() => this.#cutBack())
        .catch(() => undefined);
      throw thrown;
    }
  }

  async #cutBack(): Promise<void> {
    await this.handle.truncate(this.#length);
    this.#excess = false;
  }

  async #inPlace(): Promise<boolean> {
    const there = await stat(this.path, { bigint: true }).catch((thrown: NodeJS.ErrnoException) => {
      if (thrown.code === "ENOENT") return undefined;
      throw thrown;
    });
    const ours = await this.handle.stat({ bigint: true });
    return there?.ino === ours.ino && there.dev === ours.dev;
  }

  async #syncFolder(): Promise<void> {
    await syncFolder(dirname(this.path));
    this.#renamed = false;
  }
}

/** The disk, the user's share of it or the largest file allowed is used up: reading and cutting still work. */
export function isFull(thrown: unknown): boolean {
  return ["ENOSPC", "EDQUOT", "EFBIG"].includes((thrown as NodeJS.ErrnoException).code ?? "");
}

/** A copy that was not put in place is half a file, and may be as large as what is missing on the disk. */
async function deleteCopies(path: string): Promise<void> {
  const folder = dirname(path);
  for (const name of await readdir(folder))
    if (name.startsWith(basename(path)) && name.endsWith("~")) await rm(join(folder, name), { force: true });
}

async function keep(path: string, bytes: Buffer): Promise<{ kept?: string; reason?: string }> {
  try {
    await rm(path, { force: true });
    await writeFile(path, bytes, { mode: FILE_MODE });
    return { kept: path };
  } catch (thrown) {
    await rm(path, { force: true }).catch(() => undefined);
    return { reason: (thrown as Error).message };
  }
}

function* chunksOf(rows: Iterable<Doc>): Generator<Buffer> {
  let text = "";
  for (const row of rows) {
    text += toLine(row);
    if (text.length < CHUNK_BYTES) continue;
    yield Buffer.from(text);
    text = "";
  }
  if (text) yield Buffer.from(text);
}

async function assertRoom(folder: string, bytes: number): Promise<void> {
  const { blocks, bavail, bsize } = await statfs(folder);
  // Some file systems do not tell.
  if (!blocks || bavail * bsize >= bytes + ROOM_BYTES) return;
  const text = `ENOSPC: a copy of the file would leave less than ${ROOM_BYTES} bytes on the disk`;
  throw Object.assign(new Error(text), { code: "ENOSPC" });
}

/**
 * Without it, a power loss may bring back the folder as it was: with the old file, or with none. Windows opens no
 * folders, some file systems sync none, and a folder above ours need not be readable.
 */
export async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, "r");
    await handle.sync().finally(() => handle.close());
  } catch (thrown) {
    if (!["EACCES", "EPERM", "EISDIR", "EINVAL", "ENOTSUP"].includes((thrown as NodeJS.ErrnoException).code ?? ""))
      throw thrown;
  }
}
