import type { Bulk } from "../../src/message/bulk";
import { type HistoryRecord, MINUTE_MS, minuteID } from "../../src/message/history";
import type { ListedMessage, Message } from "../../src/message/message";
import type { Pause } from "../../src/message/records";
import { replayedOf } from "../../src/message/replay";
import type { BulkScope } from "../../src/stores/bulk-store";
import type { MongoStore } from "../../src/stores/mongo/store";
import type { DropsDone, ExcusedRecord } from "../../src/stores/store-records";
import {
  at,
  auditOf,
  deadOf,
  discardedOf,
  failedBy,
  failureOf,
  finalOf,
  handledBy,
  messageOf,
  noteOf
} from "../support/messages";
import { deleting, insert, type Step, step, told } from "./step";

const capped = () => told("a count that is capped");
/** What is left is asked about, and done again. */
const refused = () => told("RELIABLE_STORE_REFUSED");

/** Attempts that failed while the group's breaker was open, or that had counted before it opened. */
export function excusedSteps(): Step[] {
  const published = (_id: string, fields: Partial<Message> = {}) =>
    messageOf({ _id, status: "published", publishedAt: at(1), dueAt: at(900_000), ...fields });
  const excused = (id: string, all = false): ExcusedRecord => ({
    ...{ id, group: "stock", attempt: 1, nextAt: at(905_000), all },
    failure: failureOf({ group: "stock", attempt: 1, excused: true, nodeID: "node-1" })
  });
  const failed = (id: string, fields = {}) =>
    step(`${id} failed`, store => store.messages.failed([failedBy(id, { nextAt: at(905_000), ...fields })]));
  const silence = { failure: failureOf({ cause: "silence", group: "stock", attempt: 1 }) };
  return [
    step("insert what is excused", store =>
      insert(store, [
        ...["excused", "given-back", "taken-for-silent"].map(_id => published(_id)),
        published("revived", { maxAttempts: 1 })
      ])
    ),
    failed("given-back"),
    failed("revived", { nextAt: null }),
    failed("taken-for-silent", silence),
    step("excused: this", store => store.messages.excused([excused("excused")])),
    step("excused: all, of an open one", store => store.messages.excused([excused("given-back", true)])),
    step("excused: all, of a dead one", store => store.messages.excused([excused("revived", true)])),
    step("excused: its silence", store => store.messages.excused([excused("taken-for-silent")]))
  ];
}

/** One that ends by itself, page by page, and one that humans change and stop. */
export function bulkSteps(): Step[] {
  const bulkOf = (_id: string): Bulk => ({
    ...{ _id, act: "retry", filter: { status: "dead", event: _id }, key: _id, by: "emma", state: "running" },
    ...{ at: at(10_000), perSecond: 100, matched: 2, pages: 0, done: 0, lost: 0, refused: 0, changes: [] }
  });
  const [first, second] = [bulkOf("bulk-1"), bulkOf("bulk-2")];
  const held: Bulk = { ...first, claim: "node-1#1" };
  const changed = (change: "pause" | "resume" | "stop" | "rate") => ({ at: at(10_100), by: "otto", change });
  const begin = (bulk: Bulk) =>
    step(`begin ${bulk._id}`, async store => {
      if (await store.bulks.begin(bulk)) throw new Error("another one is under way");
      await store.audits.begin(auditOf({ _id: bulk._id, act: "retry", bulk: true }));
    });
  const claim = (name: string, claim: string) =>
    step(name, store => store.bulks.claim({ claim, now: at(0), until: at(15_000), most: 1 }));

  /** As the worker does a page that it may have begun before. */
  const page = (act: "retry" | "resolve" | "discard", ids: string[], work: PageWork): Step[] => [
    step(`bulk ${act} planned`, store => store.bulks.planned(held, { ids, at: at(500) }, at(20_000))),
    (act === "discard" ? deleting : step)(`bulk ${act}`, async store => {
      const query = { status: "dead" as const, groupIn: ["failed" as const], before: at(10_000), event: act };
      const scope: BulkScope = { bulk: first._id, act, query };
      const rows = await store.bulkMessages.select({ ...scope, query: { ...query, ids } }, undefined, 10);
      const now = rows.length ? await work(store, scope, rows) : new Set<string>();
      const before = await store.bulkMessages.done(scope, ids);
      if (!ids.every(id => now.has(id) || before.has(id))) throw refused();
    }),
    step(`bulk ${act} progressed`, store => {
      const progress = { pages: 1, done: 2, lost: 0, refused: 0, cursor: { at: at(500), left: [] } };
      return store.bulks.progressed(held, progress, at(25_000));
    })
  ];
  const dead = (event: string, ids: string[]) => ids.map(_id => deadOf({ _id, event }));
  const discards = dead("discard", ["discarded-1", "discarded-2"]);
  const records = discards.map(row => discardedOf(row, { _id: `discard:${row._id}`, of: first._id }));

  return [
    step("insert the dead", store =>
      insert(store, [
        ...dead("retry", ["retried-1", "retried-2"]),
        ...dead("resolve", ["resolved-1", "resolved-2"]),
        ...discards
      ])
    ),
    begin(first),
    claim("claim a bulk act", "node-1#1"),
    ...page("retry", ["retried-1", "retried-2"], (store, scope, rows) =>
      store.bulkMessages.retry(scope, rows, noteOf("retry"))
    ),
    ...page("resolve", ["resolved-1", "resolved-2"], (store, scope, rows) =>
      store.bulkMessages.resolve(scope, rows, noteOf("resolve"))
    ),
    ...page("discard", ["discarded-1", "discarded-2"], (store, scope, rows) =>
      store.bulkMessages.discard(
        scope,
        rows,
        records.filter(({ id }) => rows.some(({ _id }) => _id === id))
      )
    ),
    step("one of them handled", store => store.messages.handled([handledBy("retried-1")])),
    step("what came of it", async store => {
      const [tally, outcomes] = [
        await store.bulkMessages.tally(first._id),
        await store.bulkMessages.outcomes(first._id, 50)
      ];
      if (tally.capped) throw capped();
      if (tally.handled !== 1 || outcomes.seen !== 1) throw new Error("it is not known");
    }),
    step("end of a bulk act", async store => {
      const counts = { matched: 2, done: 2, lost: 0 };
      await store.audits.end(first._id, { state: "done", endedAt: at(11_000), counts });
      await store.bulks.ended(held, { state: "done", endedAt: at(11_000) });
    }),
    begin(second),
    step("bulk pause", store => store.bulks.pause(second._id, changed("pause"))),
    step("bulk pace", store => store.bulks.pace(second._id, 200, { ...changed("rate"), perSecond: 200 })),
    step("bulk resume", store => store.bulks.resume(second._id, changed("resume"))),
    step("bulk released", async store => {
      const { claimed } = await store.bulks.claim({ claim: "node-1#2", now: at(0), until: at(15_000), most: 1 });
      for (const bulk of claimed) await store.bulks.released(bulk);
      // Of one whose answer was lost the claim has run out.
      await store.bulks.released({ ...second, claim: "node-1#2" });
    }),
    step("bulk stop", store => store.bulks.stop(second._id, changed("stop"))),
    claim("claim a stopping one", "node-1#3"),
    step("bulk stopped", store =>
      store.bulks.ended({ ...second, claim: "node-1#3" }, { state: "stopped", endedAt: at(12_000), why: "enough" })
    )
  ];
}

type PageWork = (store: MongoStore, scope: BulkScope, rows: ListedMessage[]) => Promise<Set<string>>;

/** A kept message is sent to one more group, and handled by it. */
export function replaySteps(): Step[] {
  const original = finalOf("consumed", at(4), { _id: "kept" });
  return [
    step("insert what is kept", store => insert(store, [original])),
    step("replay", async store => {
      const { rows } = await store.bulkMessages.kept(at(4), 1);
      if (rows[0]?._id !== original._id) throw new Error("it is not found");
      const [kept] = await store.messages.find([original._id]);
      const replay = { bulk: "replay", of: original._id };
      const note = noteOf("replay", { bulk: replay.bulk, groups: ["mail"] });
      const made = replayedOf(kept as Message, replay, ["mail"], note);
      await insert(store, [made]);
      await store.messages.handled([handledBy(made._id, "mail")]);
    })
  ];
}

/** Payloads go before their rows: some stand in their rows, and some apart. */
export function payloadSteps(): Step[] {
  const [key, large] = ["customer=c-7", Buffer.alloc(40_000, "x")];
  const failures = [failureOf({ group: "stock", attempt: 1 })];
  const final = (_id: string, doneAt: number, fields: Partial<Message>) =>
    finalOf("consumed", at(doneAt), { _id, ...fields });
  const dropped = ["dropped", "dropped-text", "dropped-large"];
  return [
    step("insert payloads", store =>
      insert(store, [
        final("dropped", -50_000, {}),
        final("dropped-text", -49_000, { failures }),
        final("dropped-large", -48_000, { body: large }),
        final("erased", 11, { keys: [key], failures, notes: [noteOf("dead", { note: "boom" })] }),
        final("erased-large", 10, { keys: ["customer=c-8"], body: large }),
        final("large", 12, { body: large })
      ])
    ),
    deleting("drop payloads", async store => {
      let since: DropsDone | undefined;
      do since = (await store.dropPayloads(at(-40_000), 2, since)).more;
      while (since);
      const rows = await store.messages.find(dropped);
      if (rows.length < dropped.length || rows.some(({ droppedAt }) => !droppedAt)) throw refused();
    }),
    erasing("erase", key),
    // Its body is deleted, and its name, when its row is changed.
    erasing("erase what is large", "customer=c-8")
  ];
}

function erasing(name: string, key: string): Step {
  return deleting(name, async store => {
    while (await store.operations.erase(key, noteOf("erase"), 1));
    const { kept, dropped, capped: more } = await store.operations.keyed(key, 100);
    if (more) throw capped();
    if (kept) throw refused();
    if (dropped !== 1) throw new Error("it is not known");
  });
}

export function pauseSteps(): Step[] {
  const pauseOf = (group: string, fields: Partial<Pause> = {}): Pause => ({
    ...{ group, at: at(1), by: "anna", note: "why" },
    ...fields
  });
  const resumed = { at: at(2), by: "ben", note: "over" };
  return [
    step("pause", async store => {
      for (const pause of [pauseOf("stock"), pauseOf("mail"), pauseOf("stock", { pattern: "order.*" })])
        await store.pauses.pause(pause);
    }),
    step("resume", async store => {
      for (const group of ["stock", "mail"]) await store.pauses.resume({ group }, resumed);
    }),
    step("unmarked", store => store.pauses.unmarked({ group: "mail" }, resumed.at)),
    step("pause again", store => store.pauses.pause(pauseOf("stock", { at: at(3) }))),
    deleting("prune pauses", store => store.pauses.prune(at(100)))
  ];
}

export function historySteps(): Step[] {
  const minute = (n: number): HistoryRecord => ({
    ...{ _id: minuteID(at(n * MINUTE_MS), "node-1", "s"), unit: "minute", at: at(n * MINUTE_MS), nodeID: "node-1" },
    rows: [{ event: "order.created", group: "stock", handled: n, times: [0, n] }]
  });
  return [
    step("add a minute", async store => {
      for (const each of await store.history.add([minute(1)])) if (each instanceof Error) throw each;
    }),
    step("add minutes", async store => {
      // That one was told before.
      const records = [1, 2, 61, 300].map(minute);
      for (const each of await store.history.add(records)) if (each instanceof Error) throw each;
    }),
    deleting("fold", async store => {
      while (await store.history.fold(at(180 * MINUTE_MS)));
    }),
    deleting("drop hours", store => store.history.drop(at(30 * MINUTE_MS), 10))
  ];
}

/** What operators look at. */
export function readSteps(): Step[] {
  return [
    step("an operator's reads", async store => {
      const { bulks, bulkMessages, history, messages, pauses, subscriptions, audits } = store;
      await Promise.all([
        messages.causes({}, 10),
        messages.deadGroups(10),
        messages.oldest(),
        messages.heads(["kept"])
      ]);
      await Promise.all([bulks.find("bulk-1"), bulks.underWay(), pauses.list(), subscriptions.known()]);
      await Promise.all([
        history.between("minute", at(0), at(86_000_000), 10),
        history.between("hour", at(0), at(86_000_000), 10)
      ]);
      const query = { status: "dead" as const, groupIn: ["failed" as const], before: at(10_000) };
      const counted = await bulkMessages.count({ bulk: "another", act: "retry", query });
      // Full pages: of others the total is known without a count.
      const lists = [await bulks.list(0, 2), await audits.list(0, 2)];
      if (counted.more || lists.some(list => list.capped)) throw capped();
    })
  ];
}
