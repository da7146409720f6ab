import type { Message } from "../../message/message";
import type { InboxOutcome, InsertOutcome } from "../store-records";

/** What needs a database's transactions. Without them all but `onSessionEnd` reject with RELIABLE_BAD_SESSION. */
export interface Transactions {
  insertIn(session: unknown, message: Message, before?: Promise<unknown>): Promise<InsertOutcome>;
  onSessionEnd(session: unknown, listener: () => void): void;
  barrier(session: unknown, id: string): Promise<void>;
  fence(id: string): Promise<"committed" | "fenced">;
  rolledBack(id: string): Promise<boolean>;
  inbox(group: string, id: string, at: Date, work: (session: unknown) => Promise<void>): Promise<InboxOutcome>;
  /** See `InboxStore.lifetimeMs`. */
  lifetimeMs(): Promise<number | undefined>;
}
