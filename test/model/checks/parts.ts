import type { Courier, Delivery, Publication, PublishResult } from "../../../src/couriers/courier";
import { Callback } from "../../../src/emit/callback";
import type { Message } from "../../../src/message/message";
import { MessagePublisher } from "../../../src/outbound/message-publisher";
import { systemClock } from "../../../src/platform/clock";
import { Warnings } from "../../../src/platform/warnings";
import { ProducerClient } from "../../../src/producer-rpc/client";
import type { ProducerHandler } from "../../../src/producer-rpc/handler";
import { Progress } from "../../../src/progress/progress";
import type { Database } from "../../../src/stores/documents/collection";
import { COLLECTION_NAMES, type Collections } from "../../../src/stores/documents/collection";
import { Documents } from "../../../src/stores/documents/documents";
import { NO_TRANSACTIONS } from "../../../src/stores/embedded/no-transactions";
import type { Store } from "../../../src/stores/store";
import { CallbackService } from "../../../src/sweeper/callback-service";
import { Events } from "../../../src/telemetry/events";
import { Metrics } from "../../../src/telemetry/metrics";
import { systemQueues } from "../../../src/wire/names";
import { messageOf, silent } from "../../support/messages";
import { StageCollection } from "../bulk/parts";
import { NOW, type Script, type Stage } from "../stage";

export const GROUP = "stock";
export const QUEUES = systemQueues("");
const DELAYS = [1000, 2000];

/** Ids that are emitted in one turn, and then, while the check of the first is on its way, the others. */
export interface ChecksScenario {
  together: string[];
  after?: string[];
  /** Checks in one message. */
  most?: number;
  /** What is wrong with this one on its way. */
  bad?: string;
}

export interface ChecksWire {
  messageId: string;
  type: string;
  headers: Record<string, unknown>;
  body: Buffer;
}

export function emitted(id: string): Message {
  return messageOf({
    ...{ _id: id, strategy: "callback", maxAttempts: 2, event: "order.created", waiting: [GROUP], createdAt: NOW },
    ...{ body: Buffer.from(JSON.stringify({ id })), delays: DELAYS, round: 1, receiptTimeoutMs: 1000 },
    backoff: { initialMs: 1000, maxMs: 1000, jitter: "none" }
  });
}

function storeOf(stage: Stage): Store {
  const collections = Object.fromEntries(
    COLLECTION_NAMES.map(name => [name, new StageCollection(stage, name)])
  ) as unknown as Collections;
  const database: Database = { collections, now: () => NOW };
  return Object.assign(new (class extends Documents {})(database, NO_TRANSACTIONS), {
    ...{ name: "mongodb", ready: true, now: () => NOW, onReady: () => () => undefined }
  }) as unknown as Store;
}

function house(stage: Stage, most: number) {
  const takers = new Map<string, (delivery: Delivery) => void>();
  const limit = () => undefined;
  const courier = {
    ...{
      ready: true,
      writable: true,
      declare: async () => true,
      on: () => () => undefined,
      depth: async () => ({ ready: 0, consumers: 1 })
    },
    publish: (publication: Publication) => stage.ask({ op: "publish", ...publication }) as Promise<PublishResult>,
    consume: async ({ queue, onDelivery }: { queue: { name: string }; onDelivery(delivery: Delivery): void }) => {
      takers.set(queue.name, onDelivery);
      return { cancel: async () => undefined, close: async () => undefined, limit, active: true };
    }
  } as unknown as Courier;
  const subscriptions = {
    ...{ waitingFor: () => [GROUP], queueOf: () => "reliable.on.stock/order.created", refresh: async () => undefined },
    ...{ knownSince: () => undefined, takesSince: () => undefined, groupOfQueue: () => GROUP }
  } as never;
  const metrics = new Metrics();
  const publisher = new MessagePublisher(courier, subscriptions, QUEUES, "node-1", metrics, systemClock, {
    checkBatch: most
  });
  return { takers, courier, subscriptions, metrics, publisher };
}

/** Everything a process does, as one script each. */
export function checksScripts({ together, after = [], most = 200 }: ChecksScenario): Record<string, Script> {
  const emit: Script = async stage => {
    const { publisher, metrics } = house(stage, most);
    const callback = new Callback({ publisher, metrics, statusWaiter: {} as never, clock: systemClock });
    const send = (id: string) =>
      callback.emit(emitted(id), { waitFor: "stored", timeoutMs: 60_000 }).then(
        () => stage.say({ op: "note", id }),
        () => undefined
      );
    const all = together.map(send);
    await Promise.resolve();
    await Promise.all([...all, ...after.map(send)]);
  };

  const check: Script = async (stage, part) => {
    const { nodeID, wire } = part as { nodeID: string; wire: ChecksWire };
    const { takers, courier, subscriptions, metrics, publisher } = house(stage, most);
    const store = storeOf(stage);
    const [warnings, events] = [new Warnings(silent), new Events(silent)];
    const shared = { store, courier, subscriptions, metrics, publisher, logger: silent, warnings, events, nodeID };
    const progress = new Progress(shared);
    const producerClient = new ProducerClient({
      ...{ call: (action, params) => stage.ask({ op: "call", action, params }), handler: {} as ProducerHandler },
      ...{ subscriptions, queues: QUEUES, askTimeoutMs: 1000, logger: silent }
    });
    const service = new CallbackService(
      {
        ...shared,
        load: { calmMs: Number.POSITIVE_INFINITY },
        progress,
        producerClient,
        pageSize: 100,
        claimMs: 1000,
        producerGoneMs: 1e9,
        clock: systemClock
      },
      { queues: QUEUES, retainMs: 1e9, keepBodies: false }
    );
    await service.start();
    await new Promise<void>(resolve => {
      const ack = () => {
        stage.say({ op: "ack" });
        resolve();
        return true;
      };
      const rest = { queue: QUEUES.checks, contentType: "", timestamp: 1, redelivered: false, tag: 1, epoch: 1 };
      takers.get(QUEUES.checks)?.({ ...wire, ...rest, live: true, ack, ackUpTo: ack } as unknown as Delivery);
    });
  };

  /** What a process does not wait for; only of broken ones. */
  const late: Script = (stage, effect) => stage.ask(effect as never);
  return { emit, check, late };
}
