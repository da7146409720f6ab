import type { ClientSession, MongoClient } from "mongodb";
import type { Message } from "../../src/message/message";
import type { MongoStore } from "../../src/stores/mongo/store";
import {
  at,
  deadOf,
  discardedOf,
  failedBy,
  finalOf,
  handledBy,
  messageOf,
  noteOf,
  parkedOf,
  receiptOf,
  subscriptionOf
} from "../support/messages";
import {
  bulkSteps,
  excusedSteps,
  historySteps,
  pauseSteps,
  payloadSteps,
  readSteps,
  replaySteps
} from "./operator-steps";
import { deleting, insert, type Step, step, told } from "./step";

/** The business data of the caller's transactions. */
export const BUSINESS = "business";

const find = async (store: MongoStore, id: string) => (await store.messages.find([id]))[0] as Message;

/** As a handler or a caller writes: in the transaction. A repeated one finds its row. */
function write(client: MongoClient, database: string, id: string, session: unknown): Promise<unknown> {
  return client
    .db(database)
    .collection<{ _id: string }>(BUSINESS)
    .updateOne({ _id: id }, { $set: { written: true } }, { upsert: true, session: session as ClientSession });
}

function inTransaction(client: MongoClient, work: (session: ClientSession) => Promise<unknown>): Promise<unknown> {
  return client.withSession(session =>
    session.withTransaction(() => work(session), { writeConcern: { w: "majority" } })
  );
}

/**
 * The life of a few messages, by every verb of the store. Each step may be done again, and leaves the same rows then:
 * that is what the callers of the store rely on.
 */
export function scenario(database: string): Step[] {
  const forgotten = noteOf("forget", { group: "gone" });
  const claim = { now: at(30_000), until: at(90_000), claim: "sweep" };
  return [
    step("insert one", store => insert(store, [messageOf({ _id: "a" })])),
    step("insert many", store =>
      insert(store, [
        ...["b", "c", "d"].map(_id => messageOf({ _id, createdAt: at(1) })),
        messageOf({ _id: "e", waiting: ["*"], dueAt: at(900_000) }),
        messageOf({ _id: "f", waiting: ["stock", "mail"], dueAt: at(900_000) }),
        ...["g", "h", "i"].map(_id => messageOf({ _id, status: "intended", dueAt: at(900_000) })),
        messageOf({ _id: "o", waiting: ["gone"], dueAt: at(900_000) }),
        messageOf({ _id: "p", waiting: ["stock", "gone"], dueAt: at(900_000) }),
        ...["k", "l", "m"].map(_id => deadOf({ _id })),
        finalOf("consumed", at(-90_000), { _id: "old" })
      ])
    ),
    step("insert what is there", store =>
      insert(store, [messageOf({ _id: "a" }), messageOf({ _id: "n", dueAt: at(900_000) })])
    ),
    step("published", store => store.messages.published([{ id: "a", at: at(100), dueAt: at(60_000) }])),
    step("postponed", store => store.messages.postponed(["n"], at(910_000))),
    step("handled", store => store.messages.handled([handledBy("a"), handledBy("f", "mail")])),
    step("failed", store => store.messages.failed([failedBy("b"), failedBy("f", { nextAt: null })])),
    step("failed again", store => store.messages.failed([failedBy("b", { attempt: 2, nextAt: at(6000) })])),
    step("failed for good", store => store.messages.failed([failedBy("b", { attempt: 3, nextAt: null })])),
    step("resolveRecipients", store => store.messages.resolveRecipients([{ id: "e", groups: ["stock"] }])),
    step("due, claim", async store => {
      const ids = (await store.messages.due({ now: claim.now, limit: 10 })).map(({ id }) => id);
      await store.messages.claim({ ...claim, ids });
    }),
    step("named", store =>
      store.messages.named([{ id: "d", claim: claim.claim, from: ["stock"], to: ["stock", "mail"] }])
    ),
    step("rescheduled", store =>
      store.messages.rescheduled([
        {
          id: "c",
          claim: "sweep",
          status: "published",
          dueAt: at(95_000),
          attempts: { stock: 1 },
          next: { stock: at(95_000) },
          publishedAt: at(30_100)
        }
      ])
    ),
    step("displaced", store =>
      store.messages.displaced([
        { id: "c", group: "stock", attempt: 1, failure: failedBy("c").failure, nextAt: at(96_000) }
      ])
    ),
    step("happened", store => store.intents.happened("g", at(900_000))),
    step("withdraw", store => store.intents.withdraw("h", noteOf("withdraw"))),
    step("expire", store => store.intents.expire("i", failedBy("i").failure, "asked too often")),
    step("fence", store => store.intents.fence("h")),
    step("retry", async store => {
      const message = await find(store, "k");
      if (message.status === "dead") await store.operations.retry(message, at(900_000), noteOf("retry"));
    }),
    step("resolve", async store => {
      const message = await find(store, "l");
      if (message.status === "dead") await store.operations.resolve(message, noteOf("resolve"));
    }),
    deleting("discard", async store => {
      const message = await find(store, "m");
      if (message) await store.operations.discard(message, discardedOf(message, { _id: "audit" }));
    }),
    step("receipts", async store => {
      await store.messages.insertFromReceipts([
        finalOf("consumed", at(5), { _id: "r", strategy: "callback", receipts: { stock: receiptOf() }, partial: true })
      ]);
      // As the tracker does: what has no row is looked at.
      if (!(await find(store, "r"))) throw told("RELIABLE_STORE_REFUSED");
    }),
    step("checks", store =>
      store.messages.upsertFromChecks([
        messageOf({ _id: "r", strategy: "callback", dueAt: at(900_000) }),
        messageOf({ _id: "s", strategy: "callback", dueAt: at(900_000) })
      ])
    ),
    step("announce", store =>
      store.subscriptions.announce([
        subscriptionOf("stock"),
        subscriptionOf("mail", { pattern: "order.*" }),
        subscriptionOf("gone")
      ])
    ),
    deleting("forget", store => store.operations.forget([subscriptionOf("gone")])),
    step("release", async store => {
      while (await store.operations.release({ group: "gone" }, forgotten));
    }),
    step("subscriptions", store => store.subscriptions.list()),
    step("inbox", async store => {
      for (const refused of await store.inbox.add("stock", ["a", "b"], at(1))) if (refused) throw refused;
      await store.inbox.handled("stock", ["a", "b", "c"]);
    }),
    step("inbox in a transaction", async (store, client) => {
      const run = () =>
        store.inbox.transaction(
          "stock",
          "c",
          at(1),
          async session => void (await write(client, database, "c", session))
        );
      // As the consumer does: what has lost a conflict runs again.
      while (typeof (await run()) !== "string");
    }),
    step("session", (store, client) =>
      inTransaction(client, async session => {
        await write(client, database, "t", session);
        await store.messages.insertIn(session, messageOf({ _id: "t", dueAt: at(900_000) }));
      })
    ),
    step("barrier", async (store, client) => {
      await inTransaction(client, async session => {
        await write(client, database, "u", session);
        await store.intents.barrier(session, "u");
      }).catch((thrown: { type?: string }) => {
        // A caller whose commit had an unknown outcome does it again, and is told.
        if (thrown.type !== "RELIABLE_DUPLICATE_ID") throw thrown;
      });
    }),
    step("parked", async store => {
      await store.parked.add([parkedOf({ _id: "p" }), parkedOf({ _id: "q" })]);
      // A full page: of one that is not the total is known without a count.
      if ((await store.parked.list(0, 2)).capped) throw told("a count that is capped");
    }),
    step("list, stats", async store => {
      const { capped } = await store.messages.list({ status: "pending" }, 10);
      const stats = await store.messages.stats();
      if (capped || stats.capped.length) throw told("a count that is capped");
    }),
    ...excusedSteps(),
    ...bulkSteps(),
    ...replaySteps(),
    ...payloadSteps(),
    ...pauseSteps(),
    ...historySteps(),
    ...readSteps(),
    deleting("prune", store => store.prune(at(-60_000), 10)),
    step("probe", store => store.probe())
  ];
}
