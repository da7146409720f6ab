import { Consumer } from "../../src/consumer/consumer";
import type { Courier, Delivery, Publication, PublishResult, QueueDepth } from "../../src/couriers/courier";
import { Callback } from "../../src/emit/callback";
import type { InsertQueue } from "../../src/emit/insert-queue";
import { Outbox } from "../../src/emit/outbox";
import type { StatusWaiter } from "../../src/emit/status-waiter";
import type { Strategy } from "../../src/emit/strategy";
import { STATUS } from "../../src/message/lifecycle";
import { ANY_GROUP, type Message } from "../../src/message/message";
import { MessagePublisher } from "../../src/outbound/message-publisher";
import type { Subscriptions } from "../../src/outbound/subscriptions";
import type { Call } from "../../src/platform/call";
import { systemClock } from "../../src/platform/clock";
import { Warnings } from "../../src/platform/warnings";
import { ProducerClient } from "../../src/producer-rpc/client";
import { ProducerHandler } from "../../src/producer-rpc/handler";
import { Progress } from "../../src/progress/progress";
import { Barriers } from "../../src/stores/documents/barriers";
import type {
  Attempted,
  Change,
  Collection,
  Collections,
  Count,
  Doc,
  Filter,
  Page
} from "../../src/stores/documents/collection";
import { COLLECTION_NAMES, type Database } from "../../src/stores/documents/collection";
import { Documents } from "../../src/stores/documents/documents";
import type { Transactions } from "../../src/stores/documents/transactions";
import type { Store } from "../../src/stores/store";
import type { InsertOutcome } from "../../src/stores/store-records";
import { CallbackService } from "../../src/sweeper/callback-service";
import { sweep } from "../../src/sweeper/sweep";
import type { SweepParts } from "../../src/sweeper/sweep-parts";
import { Events } from "../../src/telemetry/events";
import { Metrics } from "../../src/telemetry/metrics";
import { Receipts } from "../../src/tracker/receipts";
import { Tracker } from "../../src/tracker/tracker";
import type { Envelope } from "../../src/wire/envelope";
import { eventQueue, systemQueues } from "../../src/wire/names";
import type { ReceiptItem } from "../../src/wire/receipt";
import type { ResendAnswer, ResendRequest } from "../../src/wire/resend";
import { messageOf, silent } from "../support/messages";
import { type Effect, NOW, type Script, type Stage } from "./stage";

export const EVENT = "order.created";
export const ID = "m";
const GROUPS = ["stock", "mail"];
export const QUEUES = systemQueues("");
export const PAYLOAD = { n: 1 };
const STORE = "store";

export const queueOf = (group: string) => eventQueue("", group, EVENT);

/** Options of one run of the model. */
export interface Scenario {
  groups: 1 | 2;
  strategy: "outbox" | "callback";
  /** Intent first; how it is asked about. */
  intent?: "barrier" | "source";
  /** It is to be sent later. */
  later?: boolean;
  /** The groups are not known yet when it is emitted. */
  unknownGroups?: boolean;
  maxAttempts: number;
  /** The consumers have breakers, and neighbours that may fail with it. */
  breaker?: boolean;
  /** The first group may be paused. */
  pauses?: boolean;
  /** The first group's consumer has the store that the message lies in. */
  rows?: boolean;
  /** Of a sweep. @default more than there are messages */
  pageSize?: number;
}

export function groupsOf({ groups }: Scenario): string[] {
  return GROUPS.slice(0, groups);
}

export interface Wire {
  queue: string;
  messageId: string | undefined;
  type: string | undefined;
  headers: Record<string, unknown>;
  body: Buffer;
}

class StageCollection implements Collection {
  constructor(
    readonly stage: Stage,
    readonly name: string
  ) {}

  #ask<T>(method: string, details: object): Promise<T> {
    return this.stage.ask({ op: `db.${method}`, collection: this.name, ...details }) as Promise<T>;
  }

  insert(docs: Doc[]): Promise<boolean[]> {
    return this.#ask("insert", { docs });
  }

  update(filter: Filter, change: Change): Promise<number> {
    return this.#ask("update", { filter, change });
  }

  /** One after the other: the bulk as a whole is not atomic. */
  async bulk(operations: { filter: Filter; change: Change }[]): Promise<number> {
    let matched = 0;
    for (const { filter, change } of operations) matched += await this.update(filter, change);
    return matched;
  }

  find(filter: Filter, { fields }: Page = {}): Promise<Doc[]> {
    return this.#ask("find", { filter, fields });
  }

  count(): Promise<Count> {
    return Promise.resolve({ counted: 0, more: false });
  }

  insertEach(docs: Doc[]): Promise<boolean[]> {
    return this.insert(docs);
  }

  async attempt(operations: { filter: Filter; change: Change }[]): Promise<Attempted> {
    return { matched: await this.bulk(operations), refused: [] };
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
    // Of what needs a transaction only the questions about a barrier row are asked here.
    super(database, new Barriers(database) as unknown as Transactions);
  }

  now(): Date {
    return NOW;
  }

  onReady(): () => void {
    return () => undefined;
  }
}

/** Consumptions of this piece of code, by queue. */
class StageCourier {
  readonly control = { listen: () => () => undefined };
  readonly name = "amqp";
  readonly features = { durable: true, shared: true };
  readonly ready = true;
  readonly writable = true;
  readonly takers = new Map<string, (delivery: Delivery) => void>();

  constructor(readonly stage: Stage) {}

  publish(publication: Publication): Promise<PublishResult> {
    if ("queue" in publication.to && publication.to.queue === QUEUES.announcements)
      return Promise.resolve({ outcome: "confirmed" });
    return this.stage.ask({ op: "publish", ...publication }) as Promise<PublishResult>;
  }

  async declare(): Promise<boolean> {
    return true;
  }

  on(): () => void {
    return () => undefined;
  }

  async consume({
    queue,
    onDelivery
  }: {
    queue: { name: string };
    onDelivery(delivery: Delivery): void;
  }): Promise<object> {
    this.takers.set(queue.name, onDelivery);
    const limit = () => undefined;
    return { cancel: async () => undefined, close: async () => undefined, limit, active: true };
  }

  depth(queue: string): Promise<QueueDepth | undefined> {
    return this.stage.ask({ op: "depth", queue }) as Promise<QueueDepth | undefined>;
  }

  /** Hands a message over; resolves when it is acked. */
  deliver(wire: Wire): Promise<void> {
    return new Promise(resolve => {
      const ack = () => {
        this.stage.say({ op: "ack" });
        resolve();
        return true;
      };
      const take = this.takers.get(wire.queue) as (delivery: Delivery) => void;
      // As with a real one, its fields are not its own: whoever spreads it loses them.
      take(
        Object.create({
          ...wire,
          contentType: "application/json",
          timestamp: 1,
          appId: undefined,
          redelivered: false,
          tag: 1,
          epoch: 1,
          ack,
          ackUpTo: ack
        }) as Delivery
      );
    });
  }
}

const statusWaiter = {
  saw: () => undefined,
  wait: () => Promise.reject(new Error("nobody waits here"))
} as unknown as StatusWaiter;

function house(stage: Stage, groups: string[], pauses = false) {
  const store = new StageStore(stage) as unknown as Store;
  const courier = new StageCourier(stage);
  let paused: unknown;
  const subscriptions = {
    refresh: async () => void (paused = pauses && (await stage.ask({ op: "pauses" }))),
    waitingFor: (_: string, named?: string[]) => [...(named ?? groups)],
    queueOf: (group: string) => (groups.includes(group) ? queueOf(group) : undefined),
    knownSince: () => undefined,
    takesSince: (group: string) =>
      group !== groups[0] ? undefined : paused === "paused" ? "never" : paused === "lately" ? NOW : undefined,
    groupOfQueue: (queue: string) => groups.find(group => queueOf(group) === queue)
  } as unknown as Subscriptions;
  const metrics = new Metrics();
  const events = new Events(silent);
  const publisher = new MessagePublisher(
    courier as unknown as Courier,
    subscriptions,
    QUEUES,
    "node-1",
    metrics,
    systemClock,
    { store: { id: STORE } }
  );
  const warnings = new Warnings(silent);
  const call: Call = (action, params) => stage.ask({ op: "call", action, params });
  return {
    store,
    courier,
    subscriptions,
    metrics,
    publisher,
    call,
    queues: QUEUES,
    logger: silent,
    warnings,
    statusWaiter,
    events,
    clock: systemClock,
    progress: new Progress({ store, subscriptions, metrics, logger: silent, warnings, events })
  };
}

/** A node with tracker, callback service and sweeper. */
function node(stage: Stage, groups: string[], nodeID: string, { pageSize = 100, pauses }: Partial<Scenario> = {}) {
  const parts = house(stage, groups, pauses);
  const courier = parts.courier as unknown as Courier;
  const tracker = new Tracker({ ...parts, courier, nodeID, prefix: "reliable", retainMs: 1e9 });
  const handler = {
    send: () => Promise.reject(new Error("every producer here can be asked"))
  } as unknown as ProducerHandler;
  const { call, subscriptions } = parts;
  const producerClient = new ProducerClient({
    call,
    handler,
    subscriptions,
    queues: QUEUES,
    askTimeoutMs: 1000,
    logger: silent
  });
  const sweepParts: SweepParts = {
    ...parts,
    courier,
    nodeID,
    producerClient,
    pageSize,
    claimMs: 1000,
    producerGoneMs: 1e9,
    load: { calmMs: Number.POSITIVE_INFINITY }
  };
  const callbackService = new CallbackService(sweepParts, { queues: QUEUES, retainMs: 1e9, keepBodies: false });
  return { ...parts, tracker, callbackService, sweepParts };
}

const IN_AN_HOUR = new Date(NOW.getTime() + 3_600_000);

function emitted(scenario: Scenario): Message {
  const { strategy, intent, later, unknownGroups, maxAttempts } = scenario;
  const late = strategy === "callback" || intent;
  return messageOf({
    ...{ _id: ID, strategy, maxAttempts, event: EVENT, body: Buffer.from(JSON.stringify(PAYLOAD)), createdAt: NOW },
    ...{ receiptTimeoutMs: 1000, backoff: { initialMs: 1000, maxMs: 1000, jitter: "none" as const } },
    waiting: unknownGroups || later ? [ANY_GROUP] : groupsOf(scenario),
    ...(later && { status: STATUS.scheduled, sendAt: IN_AN_HOUR }),
    ...(late && { delays: [1000, 2000], round: 1 }),
    ...(intent && { intent }),
    ...(intent === "source" && { source: { action: "orders.source", params: {} } })
  });
}

const OPENS_AT_TWO = { failures: 2, pauseMs: 1e9, maxPauseMs: 1e9, patienceMs: 0 };

/** Another message that the same consumer has in hand, for the first time. */
function neighbourFails({ breaker }: Consumer, envelope: Envelope, id: string): void {
  const item = { id, outcome: "failed" as const, attempt: 1, durationMs: 0, retryable: true };
  breaker?.failed({ ...envelope, id, attempt: 1, counted: 0 }, 0, { address: envelope.receipt, item });
}

/** Everything a process does, as one script each. */
export function scriptsOf(scenario: Scenario): Record<string, Script> {
  const groups = groupsOf(scenario);

  const emit: Script = async stage => {
    const { store, publisher, subscriptions, metrics, logger, warnings, progress, events } = house(stage, groups);
    const insertQueue = {
      insert: (message: Message) => store.messages.insert([message]).then(([outcome]) => outcome as InsertOutcome),
      idle: async () => undefined
    } as unknown as InsertQueue;
    const shared = {
      store,
      publisher,
      subscriptions,
      statusWaiter,
      metrics,
      logger,
      warnings,
      progress,
      events,
      clock: systemClock
    };
    const strategy: Strategy =
      scenario.strategy === "callback"
        ? new Callback(shared)
        : new Outbox({ ...shared, insertQueue, confirmTimeoutMs: 1000, claimMs: 1000 });
    let fenced = false;
    const commit = async () => {
      if (scenario.intent === "barrier") {
        await stage.ask({ op: "barrier" });
        fenced = true;
      }
      await stage.ask({ op: "commit" });
    };
    const rolledBack = async () => !fenced || store.intents.rolledBack(ID);
    await strategy
      .emit(emitted(scenario), {
        waitFor: "stored",
        timeoutMs: 60_000,
        ...(scenario.intent && { write: { commit, rolledBack } })
      })
      .then(
        () => stage.say({ op: "note", what: "promised" }),
        () => undefined
      );
    await strategy.idle();
  };

  const handle: Script = async (stage, part) => {
    const { group, wire } = part as { group: string; wire: Wire };
    const { courier, ...parts } = house(stage, groups);
    // Of two groups the second has no store, or another one.
    const owns = scenario.rows && group === groups[0];
    const tracking = { ...parts, courier: courier as unknown as Courier, nodeID: group, prefix: "", retainMs: 1e9 };
    const receipts = new Receipts(tracking);
    const rows = owns && { id: STORE, handled: (of: string, items: ReceiptItem[]) => receipts.handled(of, items) };
    const spec = {
      ...{ pattern: EVENT, group, queue: queueOf(group), bindings: [EVENT], service: group },
      options: {
        ...{ maxInFlight: 1, handlerTimeoutMs: 60_000, inbox: true, deliveryLimit: 20 },
        breaker: scenario.breaker ? OPENS_AT_TWO : (false as const)
      },
      handle: async (envelope: Envelope) => {
        const { attempt, counted = attempt - 1 } = envelope;
        const end = await stage.ask({ op: "handle", group, ...(scenario.breaker && { fresh: counted === 0 }) });
        if (end === "outage") for (const id of ["n1", "n2"]) neighbourFails(consumer, envelope, id);
        if (end === "outage later")
          later = stage.ask({ op: "neighbour" }).then(() => neighbourFails(consumer, envelope, "n1"));
        return end === "handled" ? {} : { error: { name: "Error", message: "boom" } };
      }
    };
    let later: Promise<unknown> | undefined;
    const consumer = new Consumer(spec, {
      ...parts,
      inbox: parts.store.inbox,
      ...(rows && { rows }),
      courier: courier as unknown as Courier,
      // A timer would live on in each piece of code that is left in the middle.
      clock: { ...systemClock, every: () => ({ stop: () => undefined }) },
      nodeID: group,
      namespace: ""
    });
    await consumer.start();
    await courier.deliver(wire);
    await later;
  };

  /** Receipts and checks. */
  const track: Script = async (stage, part) => {
    const { nodeID, wire } = part as { nodeID: string; wire: Wire };
    const { tracker, callbackService, courier } = node(stage, groups, nodeID, scenario);
    await tracker.start();
    await callbackService.start();
    await courier.deliver(wire);
  };

  const pass: Script = async (stage, part) => {
    const { sweepParts } = node(stage, groups, (part as { nodeID: string }).nodeID, scenario);
    await sweep(sweepParts, { token: "lease", stillHeld: () => true });
  };

  /** The producer's side of an RPC. */
  const answer: Script = async (stage, part): Promise<ResendAnswer> => {
    const { publisher, store, call } = house(stage, groups);
    const handler = new ProducerHandler({
      publisher,
      store,
      call,
      clock: systemClock,
      askTimeoutMs: 1000,
      prefix: "reliable"
    });
    return handler.answer(part as ResendRequest, {
      maxPayloadBytes: 1000,
      sendsJobs: false,
      sources: ["orders.source"]
    });
  };

  const byHuman =
    (act: "retry" | "resolve" | "cancel"): Script =>
    async stage => {
      const { messages, operations } = house(stage, groups).store;
      const [message] = await messages.find([ID]);
      const note = { at: NOW, by: "ann", act };
      if (!message) return;
      await (act === "retry" ? operations.retry(message, NOW, note) : operations[act](message, note));
    };

  /** What a broken protocol does not wait for. */
  const late: Script = (stage, part) => stage.ask(part as Effect);

  const humans = { retry: byHuman("retry"), resolve: byHuman("resolve"), cancel: byHuman("cancel") };
  return { emit, handle, track, pass, answer, late, ...humans };
}
