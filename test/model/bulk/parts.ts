import crypto from "node:crypto";
import { vi } from "vitest";
import type { ReliableError } from "../../../src/errors";
import { discardedOf } from "../../../src/operator/audit";
import { BulkOperations } from "../../../src/operator/bulk/bulk";
import { BulkWorker, type BulkWorkerParts } from "../../../src/operator/bulk/bulk-worker";
import type { Clock } from "../../../src/platform/clock";
import { Warnings } from "../../../src/platform/warnings";
import type {
  Attempted,
  Change,
  Collection,
  Collections,
  Count,
  Doc,
  Filter,
  Operation,
  Page
} from "../../../src/stores/documents/collection";
import { COLLECTION_NAMES, type Database } from "../../../src/stores/documents/collection";
import { Documents } from "../../../src/stores/documents/documents";
import { NO_TRANSACTIONS } from "../../../src/stores/embedded/no-transactions";
import type { Store } from "../../../src/stores/store";
import { Events } from "../../../src/telemetry/events";
import { Metrics } from "../../../src/telemetry/metrics";
import { silent } from "../../support/messages";
import { match, modify } from "../database";
import { type Effect, NOW, type Script, type Stage } from "../stage";

// The theatre makes these, the same ones each time that a script is run again.
vi.mock("../../../src/platform/ids", () => ({ newId: () => crypto.randomUUID() }));

export const GROUP = "stock";

export type FilterAct = "retry" | "resolve" | "discard";

export const REFUSED = { name: "ReliableError", message: "refused", type: "RELIABLE_STORE_REFUSED", retryable: false };

export class StageCollection implements Collection {
  constructor(
    readonly stage: Stage,
    readonly name: string
  ) {}

  #ask<T>(method: string, details: object): Promise<T> {
    return this.stage.ask({ op: `db.${method}`, collection: this.name, ...details }) as Promise<T>;
  }

  /** One after the other, as all that is about several documents. */
  async insert(docs: Doc[]): Promise<boolean[]> {
    const stored: boolean[] = [];
    for (const doc of docs) stored.push(await this.#ask("insert", { doc }));
    return stored;
  }

  insertEach(docs: Doc[]): Promise<boolean[]> {
    return this.insert(docs);
  }

  async attempt(operations: Operation[]): Promise<Attempted> {
    const refused: Attempted["refused"] = [];
    let matched = 0;
    for (const operation of operations) {
      const { filter, change } = operation;
      try {
        matched += await this.#ask<number>("update", { filter, change });
      } catch (thrown) {
        const error = thrown as ReliableError;
        if (error.type !== REFUSED.type) throw error;
        refused.push({ operation, error });
      }
    }
    return { matched, refused };
  }

  async bulk(operations: Operation[]): Promise<number> {
    const { matched, refused } = await this.attempt(operations);
    for (const { error } of refused) throw error;
    return matched;
  }

  update(filter: Filter, change: Change): Promise<number> {
    return this.bulk([{ filter, change }]);
  }

  find(filter: Filter, page: Page = {}): Promise<Doc[]> {
    return this.#ask("find", { filter, page });
  }

  count(filter: Filter): Promise<Count> {
    return this.#ask("count", { filter });
  }

  estimate(): Promise<number> {
    return Promise.resolve(0);
  }

  async remove(filter: Filter): Promise<number> {
    const { $in = [filter._id] } = (filter._id ?? {}) as { $in?: unknown[] };
    let removed = 0;
    for (const _id of $in) removed += await this.#ask<number>("remove", { filter: { ...filter, _id } });
    return removed;
  }
}

/** One row, and nobody else near it: the messages' own life, which no step of a bulk act cuts in two. */
class OneRow {
  constructor(public row: Doc) {}

  find = async (filter: Filter): Promise<Doc[]> => (match(this.row, filter) ? [this.row] : []);
  bulk = async (operations: Operation[]): Promise<number> => (await this.attempt(operations)).matched;
  update = (filter: Filter, change: Change): Promise<number> => this.bulk([{ filter, change }]);

  async attempt(operations: Operation[]): Promise<Attempted> {
    let matched = 0;
    for (const { filter, change } of operations) {
      if (!match(this.row, filter)) continue;
      this.row = changed(this.row, change);
      matched++;
    }
    return { matched, refused: [] };
  }
}

export function changed(doc: Doc, change: Change): Doc {
  // MongoDB pulls nothing out of a list that is not there; NeDB throws.
  const lists = Object.fromEntries(Object.keys(change.$pull ?? {}).map(list => [list, doc[list] ?? []]));
  return modify({ ...doc, ...lists }, change);
}

/** The row after its group has failed for good once more, or has handled it. */
export async function lived(row: Doc, at: Date, what: "dies" | "is handled"): Promise<Doc> {
  const one = new OneRow(row);
  const db = { collections: { messages: one } as unknown as Collections, now: () => at };
  const { messages } = new Documents(db, NO_TRANSACTIONS);
  const spent = (row.groups as Record<string, { spent?: number }> | undefined)?.[GROUP]?.spent ?? 0;
  const of = { id: row._id, group: GROUP };
  const failure = {
    at,
    ...of,
    attempt: spent + 1,
    error: { name: "Error", message: "boom" },
    cause: "handler" as const
  };
  if (what === "dies") await messages.failed([{ ...of, attempt: spent + 1, failure, nextAt: null, reason: "boom" }]);
  else await messages.handled([{ ...of, receipt: { at, nodeID: "", durationMs: 0, attempt: spent + 1 } }]);
  return one.row;
}

class StageStore extends Documents {
  readonly ready = true;

  constructor(stage: Stage) {
    const collections = Object.fromEntries(
      COLLECTION_NAMES.map(name => [name, new StageCollection(stage, name)])
    ) as unknown as Collections;
    const database: Database = { collections, now: () => NOW };
    super(database, NO_TRANSACTIONS);
  }

  now(): Date {
    return NOW;
  }

  onReady(): () => void {
    return () => undefined;
  }
}

/** Nothing is measured, nothing comes by itself: who looks, and when, is the world's. */
const stopped = { stop: () => undefined };
const clock: Clock = {
  now: () => NOW.getTime(),
  monotonic: () => 0,
  after: () => stopped,
  every: () => stopped,
  sleep: async () => undefined
};

function storeOf(stage: Stage): Store {
  return new StageStore(stage) as unknown as Store;
}

export interface Hand {
  act: FilterAct;
  id: string;
}

/** Everything that a process, or a human, does: the product's own, as one script each. */
export function bulkScripts(act: FilterAct, perSecond: number): Record<string, Script> {
  const begin: Script = (stage, part) => {
    stage.uuids = (part as { number: number }).number;
    const parts = { store: storeOf(stage), worker: { wake: async () => undefined } };
    return new BulkOperations(parts).begin({ act, group: GROUP, note: "why", perSecond }, { by: "ann" });
  };

  const work: Script = async (stage, part) => {
    const worker = new BulkWorker({
      store: storeOf(stage),
      events: new Events(silent),
      metrics: new Metrics(),
      logger: silent,
      warnings: new Warnings(silent),
      clock,
      subscriptions: { groupsFor: () => [], refresh: async () => undefined },
      nodeID: (part as { nodeID: string }).nodeID,
      sweeper: { sweeping: true, mode: "", leases: undefined },
      call: () => Promise.reject(new Error("nobody is called here")),
      registry: { nodes: () => [] }
    } as BulkWorkerParts);
    await worker.look();
  };

  const change: Script = (stage, part) => {
    const { id, what } = part as { id: string; what: "pause" | "resume" | "stop" };
    return storeOf(stage).bulks[what](id, { at: NOW, by: "ben", change: what });
  };

  /** An operator's act on one message. */
  const hand: Script = async (stage, part) => {
    const { act: by, id } = part as Hand;
    const { messages, operations } = storeOf(stage);
    const [message] = await messages.heads([id]);
    if (!message) return false;
    const note = { at: NOW, by: "cleo", act: by };
    if (by === "retry") return operations.retry(message, NOW, note);
    if (by === "resolve") return operations.resolve(message, note);
    const record = {
      _id: `by hand ${id}`,
      at: NOW,
      by: "cleo",
      act: by,
      note: "why",
      state: "begun",
      counts: {}
    } as const;
    return operations.discard(message, discardedOf({ ...message, bytes: 1 }, record, NOW));
  };

  /** What a broken protocol does not wait for. */
  const late: Script = (stage, part) => stage.ask(part as Effect);

  return { begin, work, change, hand, late };
}
