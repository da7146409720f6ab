import type { FileHandle } from "node:fs/promises";
import { types } from "node:util";
import type { Doc } from "../documents/collection";

/** By `_id`. */
export type Rows = Map<string, Doc>;

const READ_BYTES = 1024 * 1024;

/**
 * The largest write that a power loss can leave in pieces. Several emits of up to 8 MiB share one, and base64 makes a
 * body longer by a third.
 */
const MAX_WRITE_BYTES = 256 * 1024 * 1024;

/** In NeDB's form, which keeps dates. */
export function toLine(row: Doc): string {
  return `${JSON.stringify(row, keepDate)}\n`;
}

export function deletedLine(_id: string): string {
  return `${JSON.stringify({ $$deleted: true, _id })}\n`;
}

// A date has turned itself into text before a replacer gets it.
function keepDate(this: Record<string, unknown>, key: string, value: unknown): unknown {
  const own = this[key];
  return types.isDate(own) ? { $$date: own.getTime() } : value;
}

function reviveDate(_: string, value: unknown): unknown {
  const instant = (value as { $$date?: unknown } | null)?.$$date;
  return typeof instant === "number" ? new Date(instant) : value;
}

export interface ReadLines {
  rows: Rows;
  /** Bytes of what was read. */
  length: number;
  /** What follows them, and was never confirmed. */
  tail: Buffer;
}

/**
 * Reads to the end, or to where a write was interrupted:
 * - a process that is killed leaves half a line at the end;
 * - a power loss leaves zeros where blocks of the last write have not reached the disk. JSON has none, and a write
 *   begins when the one before it is on the disk. So nothing from there on was confirmed.
 *
 * Anything else that cannot be read is damage. It rejects: a row that was promised may be in it.
 */
export async function readLines(handle: FileHandle, path: string): Promise<ReadLines> {
  const rows: Rows = new Map();
  const { size } = await handle.stat();
  let length = 0;
  let number = 0;
  for await (const { line, ended } of linesOf(handle)) {
    number++;
    if (!take(line, rows)) {
      const zeros = line.includes(0) && size - length <= MAX_WRITE_BYTES;
      if (ended && !zeros) throw new Error(`line ${number} of ${path} (from byte ${length}) is damaged`);
      return { rows, length, tail: await readTail(handle, length, size) };
    }
    // Somebody's editor has taken the last line's end away.
    if (!ended) await handle.appendFile("\n");
    length += line.length + 1;
  }
  return { rows, length, tail: Buffer.alloc(0) };
}

/** False = it is no row. */
function take(line: Buffer, rows: Rows): boolean {
  if (!line.length) return true;
  let row: (Doc & { $$deleted?: true }) | { _id: undefined } | null;
  try {
    row = JSON.parse(line.toString(), reviveDate);
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return false;
    throw thrown;
  }
  if (typeof row !== "object" || row === null) return false;
  // Lines about indexes, by earlier versions, have no `_id`.
  if (row._id === undefined) return true;
  if (row.$$deleted) rows.delete(row._id);
  else rows.set(row._id, row);
  return true;
}

async function* linesOf(handle: FileHandle): AsyncGenerator<{ line: Buffer; ended: boolean }> {
  const pieces: Buffer[] = [];
  for (let at = 0; ; ) {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES, at);
    if (!bytesRead) break;
    at += bytesRead;
    let from = 0;
    for (let end = buffer.indexOf(10); end >= 0 && end < bytesRead; end = buffer.indexOf(10, from)) {
      yield { line: Buffer.concat([...pieces.splice(0), buffer.subarray(from, end)]), ended: true };
      from = end + 1;
    }
    if (from < bytesRead) pieces.push(buffer.subarray(from, bytesRead));
  }
  if (pieces.length) yield { line: Buffer.concat(pieces), ended: false };
}

async function readTail(handle: FileHandle, from: number, to: number): Promise<Buffer> {
  const tail = Buffer.alloc(to - from);
  const { bytesRead } = await handle.read(tail, 0, tail.length, from);
  return tail.subarray(0, bytesRead);
}
