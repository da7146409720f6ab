import type { MongoClient } from "mongodb";
import type { Message } from "../../src/message/message";
import type { MongoStore } from "../../src/stores/mongo/store";

export interface Step {
  name: string;
  /** A late insert would bring back what is deleted in the seconds before it. Nobody deletes what is just stored. */
  deletes?: true;
  work(store: MongoStore, client: MongoClient): Promise<unknown>;
}

export function step(name: string, work: Step["work"]): Step {
  return { name, work };
}

export function deleting(name: string, work: Step["work"]): Step {
  return { name, work, deletes: true };
}

/** What a caller is told by a return value. */
export function told(type: string): Error {
  return Object.assign(new Error(type), { type });
}

export async function insert(store: MongoStore, messages: Message[]): Promise<void> {
  for (const outcome of await store.messages.insert(messages)) if (outcome instanceof Error) throw outcome;
}
