import type { ServiceBroker } from "moleculer";
import { ReliableError, reasonOf } from "../../errors";
import { check } from "../../options/validate";
import { printableLines } from "../../platform/printable";
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

/**
 * A custom command of moleculer-repl: fits `replCommands` of Moleculer 0.14 and `replOptions.customCommands` of 0.15.
 */
export interface ReplCommand {
  command: string;
  description: string;
  alias: string[];
  allowUnknownOptions: boolean;
  options: { option: string; description: string }[];
  parse(this: (args: string[]) => object, command: Commander): void;
  /** Moleculer's own type of `args` (string[]) is not what moleculer-repl hands over. */
  action: (broker: ServiceBroker, args: ReplArgs | string[]) => Promise<void>;
}

export interface ReplArgs {
  what?: string;
  ids?: string[];
  options?: Record<string, unknown>;
}

/** What of commander's command `parse` uses. */
interface Commander {
  args: string[];
  params?: ReplArgs;
  opts(): Record<string, unknown>;
  parseOptions(args: string[]): { operands: string[]; unknown: string[] };
}

const FILTER = ["status", "event", "group", "producer", "olderThanMs", "youngerThanMs"];
const ACT = [...FILTER, "note", "by", "dryRun", "limit"];

interface Verb {
  /** Options it takes, `node` aside. */
  options: string[];
  /** What the words after the verb are. A group may be followed by a pattern. */
  takes: "nothing" | "id" | "maybe id" | "ids" | "group";
  run(call: Call, params: Record<string, unknown>): Promise<string>;
}

type Call = <T>(action: string, params?: Record<string, unknown>) => Promise<T>;

const act = (name: "retry" | "resolve" | "discard"): Verb => ({
  options: ACT,
  takes: "ids",
  run: async (call, params) => actTable(name, await call(name, params))
});

const VERBS: Record<string, Verb> = {
  overview: {
    options: [],
    takes: "nothing",
    run: async call => overviewTable(await call("stats"), await call("health"))
  },
  list: {
    options: [...FILTER, "page", "pageSize"],
    takes: "nothing",
    run: async (call, params) => listTable(await call("list", params))
  },
  get: { options: [], takes: "id", run: async (call, params) => storyText(await call("get", params)) },
  retry: act("retry"),
  resolve: act("resolve"),
  discard: {
    options: [...ACT, "parked"],
    takes: "ids",
    run: async (call, params) => actTable("discard", await call("discard", parkedParams(params)))
  },
  subscriptions: { options: [], takes: "nothing", run: async call => subscriptionsTable(await call("subscriptions")) },
  forget: {
    options: ["note", "by", "dryRun", "force"],
    takes: "group",
    run: async (call, params) => forgottenTable(await call("forget", params))
  },
  health: { options: [], takes: "nothing", run: async call => healthTable(await call("health")) },
  sweep: { options: [], takes: "nothing", run: async call => countsTable(await call("sweep")) },
  parked: {
    options: ["page", "pageSize"],
    takes: "maybe id",
    run: async (call, params) =>
      params["id"] === undefined ? parkedTable(await call("parked", params)) : parkedText(await call("parked", params))
  },
  audits: { options: [], takes: "nothing", run: async call => auditsTable(await call("audits")) }
};

/** With `--parked` the ids are those of parked messages. */
function parkedParams({ parked, id, ids = id, ...rest }: Record<string, unknown>): Record<string, unknown> {
  if (!parked) return { ...rest, ...(id !== undefined ? { id } : ids !== undefined ? { ids } : {}) };
  if (ids === undefined)
    throw new ReliableError("RELIABLE_BAD_OPTION", "'reliable discard --parked' needs an id.", { option: "parked" });
  return { ...rest, parked: ids };
}

/** The params of the verb's action. Throws RELIABLE_BAD_OPTION. */
function paramsOf(what: string, verb: Verb, ids: string[], options: Record<string, unknown>): Record<string, unknown> {
  const schema = Object.fromEntries(verb.options.map(name => [name, { type: "any" }]));
  const params = check(`'reliable ${what}'`, schema, options);
  const most = { ids: Infinity, nothing: 0, group: 2, id: 1, "maybe id": 1 }[verb.takes];
  if (ids.length > most)
    throw new ReliableError("RELIABLE_BAD_OPTION", `'reliable ${what}' does not know what '${ids[most]}' is for.`, {
      option: ids[most]
    });
  if (ids.length === 0 && (verb.takes === "id" || verb.takes === "group"))
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `'reliable ${what}' needs ${verb.takes === "id" ? "an id" : "a group"}.`,
      { option: verb.takes }
    );
  if (!ids.length) return params;
  const [first, pattern] = ids;
  if (verb.takes === "group") return { ...params, group: first, ...(pattern !== undefined && { pattern }) };
  return { ...params, ...(ids.length > 1 ? { ids } : { id: first }) };
}

/** Carries out one command and returns what is to be printed. Never rejects: an error is a text too. */
export async function reliableCommand(
  broker: ServiceBroker,
  { what = "overview", ids = [], options = {} }: ReplArgs
): Promise<string> {
  try {
    const verb = Object.hasOwn(VERBS, what) ? VERBS[what] : undefined;
    if (!verb)
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        `There is no 'reliable ${what}'. There are: ${Object.keys(VERBS).join(", ")}.`,
        { option: what }
      );
    const { node, ...rest } = options;
    const params = paramsOf(what, verb, ids, rest);
    const call: Call = (action, given = {}) =>
      broker.call(`reliable.${action}`, given, {
        meta: { $repl: true },
        ...(typeof node === "string" ? { nodeID: node } : {})
      } as object);
    return printableLines(await verb.run(call, params));
  } catch (error) {
    return printableLines(errorText(error));
  }
}

function errorText(thrown: unknown): string {
  const { type, data } = (thrown ?? {}) as { type?: string; data?: unknown };
  if (type === "SERVICE_NOT_FOUND" || type === "SERVICE_NOT_AVAILABLE")
    return `No node with the service 'reliable' can be reached: it runs where a store is configured. (${reasonOf(thrown)})`;
  // Moleculer's validation error has what is wrong in its data only.
  const details =
    type === "VALIDATION_ERROR" && Array.isArray(data)
      ? (data as { message?: string }[]).map(({ message }) => message ?? "").join(" ")
      : reasonOf(thrown);
  return `Error${type ? ` ${type}` : ""}: ${details}`;
}

export const reliableReplCommands: ReplCommand[] = [
  {
    command: "reliable [what] [id]",
    description: `Guaranteed events: ${Object.keys(VERBS).join(", ")}`,
    alias: [],
    // `check` reports an unknown option, with a suggestion.
    allowUnknownOptions: true,
    options: [
      { option: "-s, --status <status>", description: "Only messages of this status, or of several: dead,pending" },
      { option: "-e, --event <event>", description: "Only messages of this event" },
      { option: "-g, --group <group>", description: "Only messages this group waits for, has failed or handled" },
      { option: "-p, --producer <service>", description: "Only messages emitted by this service" },
      { option: "--older-than-ms <ms>", description: "Only messages older than this" },
      { option: "--younger-than-ms <ms>", description: "Only messages younger than this" },
      { option: "--page <number>", description: "Page of a list" },
      { option: "--page-size <number>", description: "Rows of a page" },
      { option: "-n, --note <text>", description: "Why; kept on the message (retry, resolve, discard, forget)" },
      { option: "--by <name>", description: "Who; kept on the message" },
      { option: "--dry-run", description: "Only tell what would be done" },
      { option: "--limit <number>", description: "Act on so many messages at most" },
      { option: "--parked", description: "Discard parked messages: the ids are theirs" },
      { option: "--force", description: "Forget: delete the group's queue although it holds messages" },
      { option: "--node <nodeID>", description: "Ask this node" }
    ],
    parse(command) {
      const { operands, unknown } = command.parseOptions(command.args);
      command.params = { what: operands[0], ids: operands.slice(1), options: { ...this(unknown), ...command.opts() } };
    },
    async action(broker, args) {
      console.log(await reliableCommand(broker, args as ReplArgs));
    }
  }
];
