// The documents that the insertMany peers store.
import { randomUUID } from "node:crypto";
import { uuidv7 } from "uuidv7";
import { newMessage } from "../../dist/src/emit/new-message.js";
import { serviceOptions } from "../../dist/src/options/resolve.js";
import { encodeMessage } from "../../dist/src/stores/documents/codec.js";
import { ConsumedOrDead } from "../../dist/src/stores/documents/consumed-or-dead.js";
import { INDEXES } from "../../dist/src/stores/documents/indexes.js";
import { specOf } from "../../dist/src/stores/mongo/collection.js";
import { headersOf } from "../../dist/src/wire/envelope.js";
import { encodePlan } from "../../dist/src/wire/plan.js";
import { EVENT } from "../lib/world.mjs";

const source = {
  service: "producer",
  options: serviceOptions({}),
  origin: { caller: "producer", nodeID: "bench" },
  meta: {}
};

const defaults = waiting => ({ id: () => uuidv7(), now: () => new Date(), waitingFor: () => waiting });

/** A message as an emit makes it. */
export function messageOf(payload, waiting, more = {}) {
  // Without spreads, as an emit does it.
  const message = newMessage(source, EVENT, payload, {}, defaults(waiting));
  message.dueAt = new Date(Date.now() + 40_000);
  return Object.assign(message, more);
}

/** Of an emit of `callback`. */
export function callbackHeaders(receipts) {
  const message = newMessage(source, EVENT, {}, { strategy: "callback" }, defaults(["*"]));
  return headersOf(message, 1, message.waiting, receipts, { echo: encodePlan(message) });
}

export const indexesOf = name => INDEXES[name].map(specOf);

/** What the last receipt of these messages writes. */
async function closingOf(ids) {
  const receipt = { at: new Date(), nodeID: "bench", durationMs: 1, attempt: 1 };
  let operations = [];
  const messages = {
    bulk: given => {
      operations = given;
      return Promise.resolve(ids.length);
    }
  };
  const database = { collections: { messages }, now: () => new Date() };
  await new ConsumedOrDead(database).handled(ids.map(id => ({ id, group: "group-1", receipt })));
  return operations.map(({ filter, change: update }) => ({ updateMany: { filter, update } }));
}

export const shapes = {
  ours: {
    document: payload => encodeMessage(messageOf(payload, ["group-1"])),
    closing: closingOf,
    indexes: indexesOf("messages")
  },
  // Of an emit with `ctx` and two keys: in the indexes of searches, too.
  searched: {
    document: payload => {
      const message = messageOf(payload, ["group-1"], { origin: { ...source.origin, requestID: randomUUID() } });
      return encodeMessage(Object.assign(message, { keys: [`order=${message._id}`, "customer=c-7"] }));
    },
    closing: closingOf,
    indexes: indexesOf("messages")
  },
  plain: {
    document: payload => ({
      _id: uuidv7(),
      event: EVENT,
      body: Buffer.from(JSON.stringify(payload)),
      status: "pending",
      createdAt: new Date()
    }),
    closing: async ids => [
      {
        updateMany: {
          filter: { _id: { $in: ids }, status: "pending" },
          update: { $set: { status: "consumed", createdAt: new Date() } }
        }
      }
    ],
    indexes: [{ key: { status: 1, createdAt: 1 } }]
  }
};
