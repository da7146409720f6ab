import type { ConsumeMessage } from "amqplib";

/** Memory of one header beside its name and value, about. */
const HEADER_BYTES = 50;

/** Tables in tables that are counted. What is deeper is small: a name or value has a length of its own. */
const MAX_DEPTH = 8;

/** What a consumption holds of one channel's deliveries: delivered and not acked, in order, with their bytes. */
export class Unacked {
  /** By delivery tag. Acking a tag twice would close the channel. */
  readonly #held = new Map<number, number>();
  bytes = 0;
  #awaited: { bytes: number; then: () => void } | undefined;

  get awaited(): boolean {
    return this.#awaited !== undefined;
  }

  /** Once. */
  whenAtMost(bytes: number, then: () => void): void {
    this.#awaited = { bytes, then };
  }

  get size(): number {
    return this.#held.size;
  }

  get largest(): number {
    return Math.max(0, ...this.#held.values());
  }

  /** Returns its bytes. */
  add({ fields, content, properties }: ConsumeMessage): number {
    const bytes = content.length + sizeOf(properties.headers, MAX_DEPTH);
    this.#held.set(fields.deliveryTag, bytes);
    this.bytes += bytes;
    return bytes;
  }

  /** False = it was settled before. */
  delete(tag: number): boolean {
    const bytes = this.#held.get(tag);
    if (bytes === undefined) return false;
    this.bytes -= bytes;
    this.#held.delete(tag);
    if (this.#awaited && this.bytes <= this.#awaited.bytes) {
      const { then } = this.#awaited;
      this.#awaited = undefined;
      then();
    }
    return true;
  }

  /** All up to and including this tag. Returns the highest that was still there, 0 for none. */
  deleteUpTo(tag: number): number {
    let highest = 0;
    for (const held of this.#held.keys()) {
      if (held > tag) break;
      highest = held;
      this.delete(held);
    }
    return highest;
  }
}

function sizeOf(value: unknown, depth: number): number {
  if (typeof value === "string" || Buffer.isBuffer(value)) return value.length;
  if (typeof value !== "object" || value === null || depth === 0) return 0;
  let bytes = 0;
  for (const name in value)
    bytes += HEADER_BYTES + name.length + sizeOf((value as Record<string, unknown>)[name], depth - 1);
  return bytes;
}
