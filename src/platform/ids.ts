import { uuidv7obj } from "uuidv7";

/** A UUIDv7. The library's own text is made of 36 pieces, which costs an emit more than the rest of its id. */
export function newId(): string {
  const { buffer, byteOffset, byteLength } = uuidv7obj().bytes;
  const hex = Buffer.from(buffer, byteOffset, byteLength).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
