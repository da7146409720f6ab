import { randomBytes } from "node:crypto";
import type { Database } from "./collection";

/** The row that names the store. No message's id has a control character; without an `at` nothing prunes it. */
export const STORE_ID = "\u0001store";

/** The store's name, which its first node gives it. Of two nodes that do so at once, one wins. */
export async function identify(db: Database): Promise<string> {
  const { barriers } = db.collections;
  for (;;) {
    const [row] = await barriers.find({ _id: STORE_ID });
    if (typeof row?.store === "string") return row.store;
    await barriers.insert([{ _id: STORE_ID, store: randomBytes(12).toString("base64url") }]);
  }
}
