import { ReliableError } from "../../errors";
import { isBulk, listBulks, oneBulk, runBulk } from "./bulk-verbs";
import type { Call } from "./call";
import { erasedText } from "./erased";
import { causesTable, listTable } from "./find-tables";
import type { FlagName } from "./flags";
import { keysTable } from "./keys-table";
import { historyTable, overviewText } from "./overview-tables";
import { pausedTable, pauseTable } from "./pause-tables";
import {
  actTable,
  auditsTable,
  auditText,
  countsTable,
  forgottenTable,
  healthTable,
  parkedTable,
  parkedText,
  storyText,
  subscriptionsTable
} from "./tables";
import type { Terminal } from "./terminal";

/** A subcommand. */
export interface Verb {
  /** What it does, for the help. The first line stands in the list of all. */
  about: string;
  /** Options it takes, `node` aside. */
  options: FlagName[];
  /** Those of them that may be given several times. */
  lists?: readonly string[];
  /** What the words after the verb are. A group may be followed by a pattern. */
  takes: "nothing" | "id" | "maybe id" | "ids" | "key" | "maybe key" | "group" | "one group" | "bulk";
  /** `terminal`: opens it, where a human may be asked. */
  run(call: Call, params: Record<string, unknown>, terminal?: () => Terminal | undefined): Promise<string>;
}

/** What is typed after the verb, and how many words of it there may be. */
export const WORDS: Readonly<Record<Verb["takes"], { text: string; most: number }>> = {
  nothing: { text: "", most: 0 },
  id: { text: " <id>", most: 1 },
  "maybe id": { text: " [id]", most: 1 },
  ids: { text: " [id...]", most: Infinity },
  key: { text: " <key>", most: 1 },
  "maybe key": { text: " [key]", most: 1 },
  group: { text: " <group> [pattern]", most: 2 },
  "one group": { text: " <group>", most: 1 },
  bulk: { text: " [pause|resume|stop|rate] <id>", most: 2 }
};

const FILTER: FlagName[] = [
  ...(["status", "event", "group", "producer", "olderThanMs", "youngerThanMs"] as const),
  ...(["idPrefix", "requestId", "key", "errorType", "cause", "errorText", "deadFromAt", "deadToAt"] as const)
];
/** Of several keys all must be there; of statuses one. */
const LISTS = ["status", "key"];
const ACT: FlagName[] = [...FILTER, "note", "by", "dryRun", "limit", "perSecond", "yes"];

const NOTE = "Needs --note, but for a --dry-run.";

const WHICH =
  "Give up to 500 ids, or a filter: not both. By a filter it counts, asks, and acts on all that match in the background, at a rate; with --limit on so many at once.";

const act = (name: "retry" | "resolve" | "discard", about: string): Verb => ({
  about: `${about}\n${WHICH}`,
  options: ACT,
  lists: LISTS,
  takes: "ids",
  run: async (call, params, terminal) =>
    isBulk(params) ? runBulk(name, call, params, terminal) : actTable(name, await call(name, onlyActs(name, params)))
});

/** Throws RELIABLE_BAD_OPTION for what is of bulk acts alone. */
function onlyActs(name: string, { yes: _yes, perSecond, ...params }: Record<string, unknown>): Record<string, unknown> {
  if (perSecond === undefined) return params;
  throw new ReliableError(
    "RELIABLE_BAD_OPTION",
    `'reliable ${name}' with ids, or with --limit, acts at once: it has no --per-second.`,
    { option: "perSecond" }
  );
}

export const VERBS: Readonly<Record<string, Verb>> = {
  overview: {
    about: "What to do, in one sentence; messages, groups, servers and nodes. Also without any word.",
    options: [],
    takes: "nothing",
    run: async call => overviewText(await call("overview"))
  },
  list: {
    about:
      "Messages, newest first.\nWithout a filter, those that are not final (dead, pending, published, scheduled, intended) come before the others.",
    options: [...FILTER, "cursor", "pageSize"],
    lists: LISTS,
    takes: "nothing",
    run: async (call, params) => listTable(await call("list", params), params)
  },
  causes: {
    about: "What messages have died of: by group, event and type of error, the most frequent first.",
    options: [...FILTER, "limit"],
    lists: LISTS,
    takes: "nothing",
    run: async (call, params) => causesTable(await call("causes", params))
  },
  get: {
    about: "All of one message, with its timeline.",
    options: [],
    takes: "id",
    run: async (call, params) => storyText(await call("get", params))
  },
  retry: act("retry", "Gives dead messages new attempts, for the groups that have failed."),
  resolve: act("resolve", `Closes dead messages that were dealt with in another way.\n${NOTE}`),
  discard: {
    ...act("discard", `Deletes dead messages, or with --parked parked ones; an audit record stays.\n${NOTE}`),
    options: [...ACT, "parked"],
    run: async (call, params, terminal) =>
      isBulk(params)
        ? runBulk("discard", call, params, terminal)
        : actTable("discard", await call("discard", parkedParams(onlyActs("discard", params))))
  },
  cancel: {
    about: `Takes back scheduled messages before they are sent.\n${NOTE}\nGive up to 500 ids, or a filter: the 100 newest that match, or --limit.`,
    options: [...FILTER, "note", "by", "dryRun", "limit"],
    lists: LISTS,
    takes: "ids",
    run: async (call, params) => actTable("cancel", await call("cancel", params))
  },
  keys: {
    about:
      "Order keys that are held, and by what; how many wait behind, and since when. With a key, that one.\nRetry the message that holds a key, or skip it: then the next of the key gets its turn.",
    options: ["limit"],
    takes: "maybe key",
    run: async (call, params) => keysTable(await call("keys", params), params["key"])
  },
  skip: {
    about: `Resolves the dead message that holds an order key, so that the key goes on without it.\n${NOTE} With --group, only what has failed in that group.`,
    options: ["group", "note", "by", "dryRun"],
    takes: "key",
    run: async (call, params) => actTable("skip", await call("skip", params))
  },
  bulks: {
    about: "Bulk acts, newest first.",
    options: ["page", "pageSize"],
    takes: "nothing",
    run: listBulks
  },
  bulk: {
    about: "One bulk act: how far it is. Pauses it, resumes it, stops it, or changes its rate (--per-second).",
    options: ["id", "perSecond", "note", "by"],
    takes: "bulk",
    run: oneBulk
  },
  replay: {
    about:
      "Sends kept messages (finished ones too) of a time to one group, new or old, at a rate: counts, asks, and shows how it goes.\nWhat the group has handled is not handled again, but with --again, which needs --note. Further: reliable bulk <id>.",
    options: ["event", "fromAt", "toAt", "perSecond", "again", "note", "by", "dryRun", "yes"],
    takes: "one group",
    run: (call, params, terminal) => runBulk("replay", call, params, terminal)
  },
  subscriptions: {
    about: "Groups, their queues, and what is ready in them.",
    options: [],
    takes: "nothing",
    run: async call => subscriptionsTable(await call("subscriptions"))
  },
  forget: {
    about:
      "Releases a group that is gone for good, or one of its handlers.\nNeeds --note, but for a --dry-run. What has consumers is left alone.",
    options: ["note", "by", "dryRun", "force"],
    takes: "group",
    run: async (call, params) => forgottenTable(await call("forget", params))
  },
  pause: {
    about:
      "A group, or one of its handlers, takes nothing until it is resumed.\nNeeds --note. Handlers that run end as usual; what none has begun goes back to its queue. A queue of moleculer-amqp-queue is the group queue/<name>.",
    options: ["note", "by"],
    takes: "group",
    run: async (call, params) => pauseTable("pause", await call("pause", params))
  },
  resume: {
    about: "A paused group, or one of its handlers, takes messages again.",
    options: ["note", "by"],
    takes: "group",
    run: async (call, params) => pauseTable("resume", await call("resume", params))
  },
  paused: {
    about: "What is paused, since when, by whom and why.",
    options: ["event"],
    takes: "nothing",
    run: async (call, params) => pausedTable(await call("paused", params))
  },
  erase: {
    about:
      "Drops the payloads of all finished messages with a --key, at once.\nMeta, headers and the texts of errors go with them; rows and an audit record stay. What is not finished is told, with why.\nNeeds --note, but for a --dry-run.",
    options: ["key", "note", "by", "dryRun"],
    takes: "nothing",
    run: async (call, params) => erasedText(await call("erase", params))
  },
  health: {
    about: "Connections, lease and what is in flight.",
    options: [],
    takes: "nothing",
    run: async call => healthTable(await call("health"))
  },
  history: {
    about:
      "What was emitted, handled and failed, by time; the last hour by minutes without options.\nMinutes are kept for 24 h, hours for 30 d; the minute that has begun is not there yet.",
    options: ["fromAt", "toAt", "stepMs", "event", "group"],
    takes: "nothing",
    run: async (call, params) => historyTable(await call("history", params))
  },
  sweep: {
    about: "One sweep, now; tells what it did.",
    options: ["note", "by"],
    takes: "nothing",
    run: async (call, params) => countsTable(await call("sweep", params))
  },
  parked: {
    about: "What could not be read; with an id, all of one.",
    options: ["page", "pageSize"],
    takes: "maybe id",
    run: async (call, params) =>
      params["id"] === undefined ? parkedTable(await call("parked", params)) : parkedText(await call("parked", params))
  },
  audits: {
    about: "Who did what, when and why, newest first; with an id (of the act), all of one.",
    options: ["page", "pageSize"],
    takes: "maybe id",
    run: async (call, params) =>
      params["id"] === undefined ? auditsTable(await call("audits", params)) : auditText(await call("audits", params))
  }
};

/** With `--parked` the ids are those of parked messages. */
function parkedParams({ parked, id, ids = id, ...rest }: Record<string, unknown>): Record<string, unknown> {
  if (!parked) return { ...rest, ...(id !== undefined ? { id } : ids !== undefined ? { ids } : {}) };
  if (ids === undefined)
    throw new ReliableError("RELIABLE_BAD_OPTION", "'reliable discard --parked' needs an id.", { option: "parked" });
  return { ...rest, parked: ids };
}
