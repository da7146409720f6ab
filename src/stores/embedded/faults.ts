import { TypedEmitter } from "../../async/typed-emitter";
import { reasonOf } from "../../errors";
import type { Logger } from "../../platform/logger";

/**
 * What the files of a store cannot do now. Each failure is told once, in the log and to the listeners, until it has
 * passed; that is logged too.
 */
export class Faults extends TypedEmitter<{
  /** A file takes no writes, or cannot be compacted, or the folder was lost. */
  failing: [error: Error];
  /** All files take writes again. */
  mended: [];
}> {
  readonly #stopped = new Set<string>();
  readonly #growing = new Map<string, string>();

  constructor(private readonly log: Logger) {
    super(log);
  }

  /** What is not as it should be, while writes are taken. */
  get degraded(): string[] {
    return [...this.#growing.values()];
  }

  /** Whether the file took no writes at the last try. */
  stops(path: string): boolean {
    return this.#stopped.has(path);
  }

  notWritten(path: string, error: Error): void {
    if (this.#stopped.has(path)) return;
    this.#stopped.add(path);
    this.#tell(error);
  }

  written(path: string): void {
    if (!this.#stopped.delete(path)) return;
    this.log.info(`Reliable: the embedded store writes ${path} again.`);
    if (!this.#stopped.size) this.emit("mended");
  }

  notCompacted(path: string, thrown: unknown): void {
    const told = this.#growing.has(path);
    const text = `The embedded store cannot compact ${path}, which grows with each write: ${reasonOf(thrown)}`;
    this.#growing.set(path, text);
    if (!told) this.#tell(new Error(text, { cause: thrown }));
  }

  compacted(path: string): void {
    if (this.#growing.delete(path)) this.log.info(`Reliable: the embedded store has compacted ${path} again.`);
  }

  folderLost(error: Error): void {
    this.#tell(error);
  }

  #tell(error: Error): void {
    this.log.error(`Reliable: ${error.message}`);
    this.emit("failing", error);
  }
}
