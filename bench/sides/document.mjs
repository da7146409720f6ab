// The documents that the insertMany peers store.
import { uuidv7 } from "uuidv7";
import { newMessage } from "../../dist/src/emit/new-message.js";
import { serviceOptions } from "../../dist/src/options/resolve.js";
import { encodeMessage } from "../../dist/src/stores/documents/codec.js";
import { INDEXES } from "../../dist/src/stores/documents/indexes.js";
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
  return {
    ...newMessage(source, EVENT, payload, {}, defaults(waiting)),
    dueAt: new Date(Date.now() + 40_000),
    ...more
  };
}

/** Of an emit of `callback`. */
export function callbackHeaders(receipts) {
  const message = newMessage(source, EVENT, {}, { strategy: "callback" }, defaults(["*"]));
  return headersOf(message, 1, message.waiting, receipts, encodePlan(message));
}

export const indexesOf = name =>
  INDEXES[name].map(({ key, sparse }) => ({
    key,
    ...(sparse && { sparse })
  }));

export const shapes = {
  ours: { document: payload => encodeMessage(messageOf(payload, ["group-1"])), indexes: indexesOf("messages") },
  plain: {
    document: payload => ({
      _id: uuidv7(),
      event: EVENT,
      body: Buffer.from(JSON.stringify(payload)),
      status: "pending",
      createdAt: new Date()
    }),
    indexes: [{ key: { status: 1, createdAt: 1 } }]
  }
};
