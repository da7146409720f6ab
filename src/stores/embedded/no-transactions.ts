import { ReliableError } from "../../errors";
import type { Transactions } from "../documents/transactions";

function refuse(what: string): never {
  const text = `${what} needs MongoDB: the embedded store has no transactions.`;
  throw new ReliableError("RELIABLE_BAD_SESSION", text, { store: "embedded" });
}

const SESSION = "`session`";
const BARRIER = "`message.barrier(session)`";

/** NeDB has no transactions. */
export const NO_TRANSACTIONS: Transactions = {
  insertIn: async () => refuse(SESSION),
  onSessionEnd: () => refuse(SESSION),
  barrier: async () => refuse(BARRIER),
  fence: async () => refuse(BARRIER),
  rolledBack: async () => refuse(BARRIER),
  inbox: async () => refuse('`inbox: "transaction"`'),
  lifetimeMs: async () => undefined
};
