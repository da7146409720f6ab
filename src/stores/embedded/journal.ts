import type { Doc } from "../documents/collection";
import { deletedLine, toLine } from "./lines";

/** What one group of changes does to the rows: their lines for the file, and the rows as they were before. */
export class Journal {
  /** By `_id`; undefined = there was no such row. */
  readonly before = new Map<string, Doc | undefined>();
  readonly #lines = new Map<string, string>();

  /** Number of lines. */
  get size(): number {
    return this.#lines.size;
  }

  get lines(): string {
    return [...this.#lines.values()].join("");
  }

  wrote(row: Doc, before: Doc | undefined): void {
    this.#changed(row._id, before);
    this.#lines.set(row._id, toLine(row));
  }

  removed(row: Doc): void {
    this.#changed(row._id, row);
    this.#lines.set(row._id, deletedLine(row._id));
  }

  #changed(id: string, before: Doc | undefined): void {
    if (!this.before.has(id)) this.before.set(id, before);
  }
}
