import type { Courier, Delivery, Publication, PublishResult, QueueDepth } from "../../../src/couriers/courier";
import { OrderedEmits } from "../../../src/emit/ordered";
import type { StatusWaiter } from "../../../src/emit/status-waiter";
import { STATUS } from "../../../src/message/lifecycle";
import { ANY_GROUP, type Message } from "../../../src/message/message";
import { MessagePublisher } from "../../../src/outbound/message-publisher";
import type { Subscriptions } from "../../../src/outbound/subscriptions";
import type { Clock } from "../../../src/platform/clock";
import { Warnings } from "../../../src/platform/warnings";
import type { ProducerClient } from "../../../src/producer-rpc/client";
import { Progress } from "../../../src/progress/progress";
import { encodeMessage } from "../../../src/stores/documents/codec";
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
import type { Transactions } from "../../../src/stores/documents/transactions";
import { NO_TRANSACTIONS } from "../../../src/stores/embedded/no-transactions";
import type { Turn } from "../../../src/stores/lane-store";
import type { Store } from "../../../src/stores/store";
import type { InsertOutcome } from "../../../src/stores/store-records";
import { sweep } from "../../../src/sweeper/sweep";
import type { SweepParts } from "../../../src/sweeper/sweep-parts";
import { Turns } from "../../../src/sweeper/turns";
import { Events } from "../../../src/telemetry/events";
import { Metrics } from "../../../src/telemetry/metrics";
import { Receipts } from "../../../src/tracker/receipts";
import { messageOf, silent } from "../../support/messages";
import { EVENT, QUEUES, queueOf } from "../parts";
import { type Effect, NOW, type Script, type Stage } from "../stage";
import { LATER, type Letter, type OrderScenario } from "./world";

class StageCollection implements Collection {
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

  async update(filter: Filter, change: Change): Promise<number> {
    const { $in = [filter._id] } = (filter._id ?? {}) as { $in?: unknown[] };
    let matched = 0;
    for (const _id of $in) matched += await this.#ask<number>("update", { filter: { ...filter, _id }, change });
    return matched;
  }

  async bulk(operations: Operation[]): Promise<number> {
    let matched = 0;
    for (const { filter, change, upsert } of operations)
      matched += upsert
        ? await this.#ask<number>("update", { filter, change, upsert })
        : await this.update(filter, change);
    return matched;
  }

  async attempt(operations: Operation[]): Promise<Attempted> {
    return { matched: await this.bulk(operations), refused: [] };
  }

  find(filter: Filter, page: Page = {}): Promise<Doc[]> {
    return this.#ask("find", { filter, page });
  }

  count(): Promise<Count> {
    return Promise.resolve({ counted: 0, more: false });
  }

  estimate(): Promise<number> {
    return Promise.resolve(0);
  }

  remove(filter: Filter): Promise<number> {
    return this.#ask("remove", { filter });
  }
}

/** The verbs are the product's; only the collections under them are the model's. */
class StageStore extends Documents {
  readonly name = "mongodb";
  readonly features = { durable: true, shared: true, transactions: true };
  readonly ready = true;

  constructor(stage: Stage) {
    const collections = Object.fromEntries(
      COLLECTION_NAMES.map(name => [name, new StageCollection(stage, name)])
    ) as unknown as Collections;
    const database: Database = { collections, now: () => NOW };
    const transactions: Transactions = {
      ...NO_TRANSACTIONS,
      insertIn: async (session, message, before) => {
        await before;
        (session as Message[]).push(message);
        return { stored: true } satisfies InsertOutcome;
      }
    };
    super(database, transactions);
  }

  now(): Date {
    return NOW;
  }

  onReady(): () => void {
    return () => undefined;
  }
}

/** Of `Turns`: publishes are recorded then. */
const RECORD_MS = 500;

/** Nothing else comes by itself: what is tried again by a timer must be needed by nobody. */
const stopped = { stop: () => undefined };
const clockOf = (stage: Stage): Clock => ({
  now: () => NOW.getTime(),
  monotonic: () => 0,
  after: (ms, callback) => {
    if (ms === RECORD_MS) void stage.ask({ op: "pause" }).then(callback);
    return stopped;
  },
  every: () => stopped,
  sleep: async () => undefined
});

function house(stage: Stage, { groups, unknown }: OrderScenario, nodeID: string, isBlind = false) {
  const store = new StageStore(stage) as unknown as Store;
  const clock = clockOf(stage);
  // Whoever knows none at first asks; what is known stays so.
  let known = !unknown;
  const look = async () => void (known ||= (await stage.ask({ op: "known" })) as boolean);
  const subscriptions = {
    fresh: look,
    refresh: look,
    waitingFor: (_: string, named?: string[]) => [...(named ?? (known ? groups : [ANY_GROUP]))],
    queueOf: (group: string) => (known && groups.includes(group) ? queueOf(group) : undefined),
    knows: (group: string) => known && groups.includes(group),
    knownSince: () => undefined,
    takesSince: () => undefined
  } as unknown as Subscriptions;
  const courier = {
    ready: true,
    writable: true,
    publish: (publication: Publication) => stage.ask({ op: "publish", ...publication }) as Promise<PublishResult>,
    depth: (queue: string) => stage.ask({ op: "depth", queue }) as Promise<QueueDepth | undefined>
  } as unknown as Courier;
  const metrics = new Metrics();
  const events = new Events(silent);
  const warnings = new Warnings(silent);
  const publisher = new MessagePublisher(courier, subscriptions, QUEUES, nodeID, metrics, clock);
  const progress = new Progress({ store, subscriptions, metrics, logger: silent, warnings, events });
  const parts: SweepParts = {
    ...{ store, courier, publisher, subscriptions, metrics, logger: silent, warnings, nodeID, progress, events, clock },
    pageSize: 100,
    claimMs: 1000,
    producerGoneMs: 1e9,
    load: { calmMs: Number.POSITIVE_INFINITY },
    producerClient: {} as ProducerClient
  };
  if (isBlind) lookAway(store);
  return { parts, store, events, turns: new Turns(parts, true) };
}

/** A broken protocol: whatever is due is taken for what has its turn. */
function lookAway(store: Store): void {
  const { lanes } = store;
  const turnsOf = lanes.turnsOf.bind(lanes);
  lanes.turnsOf = async messages => {
    const { given } = await turnsOf(messages);
    const all = messages.flatMap(({ _id: id, order, waiting }) =>
      waiting.map((group): Turn => ({ key: String(order?.key), group, id, number: 1, bytes: 1 }))
    );
    return { turns: all, given };
  };
}

export interface ReceiptWire {
  group: string;
  id: string;
  attempt: number;
  outcome: "handled" | "failed";
  orderKey: string;
}

function receiptOf({ group, ...item }: ReceiptWire): Delivery {
  const failed = item.outcome === "failed" && { retryable: true, error: { name: "Error", message: "boom" } };
  const items = [{ ...item, durationMs: 0, ...failed }];
  return {
    type: "reliable.receipt",
    headers: {},
    body: Buffer.from(JSON.stringify({ v: 1, group, nodeID: group, items }))
  } as unknown as Delivery;
}

function emitted({ id, key, onDead }: Letter, { maxAttempts = 2 }: OrderScenario): Message {
  return messageOf({
    ...{ _id: id, event: EVENT, body: Buffer.from("{}"), createdAt: NOW, maxAttempts, bucket: 0, dueAt: LATER },
    ...{ receiptTimeoutMs: 1000, backoff: { initialMs: 1000, maxMs: 1000, jitter: "none" as const } },
    waiting: [ANY_GROUP],
    order: { key, ...(onDead === "skip" && { onDead }) }
  });
}

/** Everything a process does: the product's own, as one script each. */
export function orderScripts(scenario: OrderScenario, isBlind?: boolean): Record<string, Script> {
  /** Emits in the order of the calls, and no call waits for another. */
  const emit: Script = async (stage, part) => {
    const { name, letters, session } = part as { name: string; letters: Letter[]; session?: boolean };
    const { parts, store } = house(stage, scenario, name, isBlind);
    const ordered = new OrderedEmits(parts);
    const promised = (id: string) => stage.say({ op: "note", id });
    if (session) {
      const written: Message[] = [];
      for (const letter of letters) {
        const message = { ...emitted(letter, scenario), waiting: parts.subscriptions.waitingFor(EVENT) };
        await ordered.insertIn(written, message);
      }
      await stage.ask({ op: "commit", docs: written.map(encodeMessage) });
      for (const { id } of letters) promised(id);
      const rows = await store.messages.find(letters.map(({ id }) => id));
      await ordered.place(rows);
    } else
      await Promise.all(
        letters.map(letter => ordered.insert(emitted(letter, scenario), 60_000).then(() => promised(letter.id)))
      );
  };

  const track: Script = async (stage, part) => {
    const { name, wire } = part as { name: string; wire: ReceiptWire };
    const { parts } = house(stage, scenario, name, isBlind);
    const tracking = { ...parts, statusWaiter: {} as StatusWaiter, queues: QUEUES, prefix: "reliable", retainMs: 1e9 };
    await new Receipts(tracking).take([receiptOf(wire)]);
    stage.say({ op: "ack" });
  };

  const pass: Script = async (stage, part) => {
    const { parts, turns } = house(stage, scenario, (part as { name: string }).name, isBlind);
    await sweep(parts, { token: "lease", stillHeld: () => true });
    await turns.look();
  };

  /** An operator's act on one message. */
  const hand: Script = async (stage, part) => {
    const { act, id } = part as { act: "retry" | "resolve"; id: string };
    const { messages, operations } = house(stage, scenario, "human").store;
    const [message] = await messages.heads([id]);
    if (message?.status !== STATUS.dead) return;
    const note = { at: NOW, by: "cleo", act };
    await (act === "retry" ? operations.retry(message, NOW, note) : operations.resolve(message, note));
  };

  /** What a broken protocol does not wait for. */
  const late: Script = (stage, part) => stage.ask(part as Effect);

  return { emit, track, pass, hand, late };
}
