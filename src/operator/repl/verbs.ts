import { ReliableError } from "../../errors";
import type { FlagName } from "./flags";
import {
  actTable,
  auditsTable,
  countsTable,
  forgottenTable,
  healthTable,
  listTable,
  overviewTable,
  parkedTable,
  parkedText,
  storyText,
  subscriptionsTable
} from "./tables";

export type Call = <T>(action: string, params?: Record<string, unknown>) => Promise<T>;

/** A subcommand. */
export interface Verb {
  /** What it does, for the help. The first line stands in the list of all. */
  about: string;
  /** Options it takes, `node` aside. */
  options: FlagName[];
  /** What the words after the verb are. A group may be followed by a pattern. */
  takes: "nothing" | "id" | "maybe id" | "ids" | "group";
  run(call: Call, params: Record<string, unknown>): Promise<string>;
}

/** What is typed after the verb, and how many words of it there may be. */
export const WORDS: Readonly<Record<Verb["takes"], { text: string; most: number }>> = {
  nothing: { text: "", most: 0 },
  id: { text: " <id>", most: 1 },
  "maybe id": { text: " [id]", most: 1 },
  ids: { text: " [id...]", most: Infinity },
  group: { text: " <group> [pattern]", most: 2 }
};

const FILTER: FlagName[] = ["status", "event", "group", "producer", "olderThanMs", "youngerThanMs"];
const ACT: FlagName[] = [...FILTER, "note", "by", "dryRun", "limit"];

const WHICH =
  "Give up to 500 ids, or a filter: not both. A filter acts on 100 messages, unless --limit says otherwise; repeat it for more.";

const act = (name: "retry" | "resolve" | "discard", about: string): Verb => ({
  about: `${about}\n${WHICH}`,
  options: ACT,
  takes: "ids",
  run: async (call, params) => actTable(name, await call(name, params))
});

export const VERBS: Readonly<Record<string, Verb>> = {
  overview: {
    about: "Messages by status, the oldest ones, and how the node is. Also without any word.",
    options: [],
    takes: "nothing",
    run: async call => overviewTable(await call("stats"), await call("health"))
  },
  list: {
    about:
      "Messages, newest first.\nWithout a filter, those that are not final (dead, pending, published, intended) come before the others.",
    options: [...FILTER, "page", "pageSize"],
    takes: "nothing",
    run: async (call, params) => listTable(await call("list", params))
  },
  get: {
    about: "All of one message, with its timeline.",
    options: [],
    takes: "id",
    run: async (call, params) => storyText(await call("get", params))
  },
  retry: act("retry", "Gives dead messages new attempts, for the groups that have failed."),
  resolve: act("resolve", "Closes dead messages that were dealt with in another way."),
  discard: {
    ...act("discard", "Deletes dead messages, or with --parked parked ones; an audit record stays."),
    options: [...ACT, "parked"],
    run: async (call, params) => actTable("discard", await call("discard", parkedParams(params)))
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
  health: {
    about: "Connections, lease and what is in flight.",
    options: [],
    takes: "nothing",
    run: async call => healthTable(await call("health"))
  },
  sweep: {
    about: "One sweep, now; tells what it did.",
    options: [],
    takes: "nothing",
    run: async call => countsTable(await call("sweep"))
  },
  parked: {
    about: "What could not be read; with an id, all of one.",
    options: ["page", "pageSize"],
    takes: "maybe id",
    run: async (call, params) =>
      params["id"] === undefined ? parkedTable(await call("parked", params)) : parkedText(await call("parked", params))
  },
  audits: {
    about: "What was discarded or forgotten, and by whom.",
    options: [],
    takes: "nothing",
    run: async call => auditsTable(await call("audits"))
  }
};

/** With `--parked` the ids are those of parked messages. */
function parkedParams({ parked, id, ids = id, ...rest }: Record<string, unknown>): Record<string, unknown> {
  if (!parked) return { ...rest, ...(id !== undefined ? { id } : ids !== undefined ? { ids } : {}) };
  if (ids === undefined)
    throw new ReliableError("RELIABLE_BAD_OPTION", "'reliable discard --parked' needs an id.", { option: "parked" });
  return { ...rest, parked: ids };
}
