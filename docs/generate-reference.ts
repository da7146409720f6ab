import { readFileSync, writeFileSync } from "node:fs";
import { reliableActions } from "../mixins/reliable.actions";
import { ERRORS } from "../src/errors";
import { environmentName, hasVariable } from "../src/options/environment";
import { OPTIONS, type OptionName } from "../src/options/options";
import { METRICS } from "../src/telemetry/metrics";

/**
 * The pages of docs/reference, made from the tables in the code: `npm run docs:reference` writes them, and
 * test/unit/reference.spec.ts fails while they are not what would be written.
 */
export function referencePages(): Record<string, string> {
  return {
    "docs/reference/options.md": optionsPage(),
    "docs/reference/errors.md": errorsPage(),
    "docs/reference/metrics.md": metricsPage(),
    "docs/reference/actions.md": actionsPage()
  };
}

const MADE = "<!-- Made by `npm run docs:reference`; change the code it is made from. -->";

function page(title: string, ...parts: string[]): string {
  return `${[`# ${title}`, MADE, ...parts].join("\n\n")}\n`;
}

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.map(cell => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

const code = (text: string) => `\`${text}\``;

function literal(value: unknown): string {
  if (value === undefined) return "–";
  return code(
    JSON.stringify(value)
      .replace(/"(\w+)":/g, "$1: ")
      .replace(/,/g, ", ")
  );
}

/** By name of the option: the comment above it in the table OPTIONS. */
function optionTexts(): Record<string, string> {
  const source = readFileSync("src/options/options.ts", "utf8");
  const entries = [...source.matchAll(/^ {2}\/\*\*(.*?)\*\/\n {2}(\w+): per/gms)];
  return Object.fromEntries(
    entries.map(([, comment = "", name = ""]) => [
      name,
      comment
        .replace(/\s*\n\s*\* ?/g, " ")
        .trim()
        .replace(/\.$/, "")
    ])
  );
}

function optionsPage(): string {
  const texts = optionTexts();
  const names = Object.keys(OPTIONS) as OptionName[];
  const rows = names.map(name => {
    const { scope, default: preset } = OPTIONS[name];
    const text = texts[name];
    if (!text) throw new Error(`src/options/options.ts has no comment above '${name}'`);
    const variable = hasVariable(name) ? code(environmentName(name)) : "–";
    return [code(name), scope, literal(preset), variable, text];
  });
  return page(
    "Options",
    "Options of `ReliableEmit({ … })`, `ReliableService({ … })` and `ReliableAmqpQueue({ … })`. What the mixin is given counts before `settings.reliable`, and this before the environment.",
    [
      "- Scope `node`: counts once per Moleculer node; the services on it may not contradict each other.",
      "- Scope `service`: counts per service.",
      "- Scope `event`: counts per reliable event, as in `reliable: { maxInFlight: 5 }`. Given to the mixin, it is the default of the service's events."
    ].join("\n"),
    "Durations are in milliseconds. An unknown option is an error, with a suggestion. Options of one emit: [emitting](../guide/emitting.md#options).",
    table(["option", "scope", "default", "environment", "what it is"], rows)
  );
}

function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(([type, { retryable, text }]) => [
    code(type),
    retryable ? "yes" : "no",
    text
  ]);
  return page(
    "Errors",
    "Every error has a `type` and names in `data` what it is about. `retryable` says whether doing the same again may help: those with `yes` are a `ReliableRetryableError` (code 503), those with `no` a `ReliableError` (code 422). `cause` keeps the error underneath, without credentials.",
    "What to do when an emit rejects: [emitting](../guide/emitting.md#when-an-emit-rejects).",
    table(["type", "retryable", "what it means"], rows)
  );
}

function metricsPage(): string {
  const rows = Object.entries(METRICS).map(([name, { type, labels, description }]) => [
    code(`moleculer.reliable.${name}`),
    type,
    labels.join(", ") || "–",
    description
  ]);
  return page(
    "Metrics",
    "Registered in Moleculer's metrics, where these are enabled. How to use them: [metrics and tracing](../guide/metrics-and-tracing.md).",
    table(["metric", "type", "labels", "what it is"], rows)
  );
}

/** A rule of fastest-validator. */
interface Rule {
  type: string;
  optional?: boolean;
  rules?: Rule[];
  items?: Rule;
  pattern?: string;
  min?: number;
  max?: number;
}

type ActionName = keyof typeof reliableActions;

interface ActionText {
  what: string;
  returns: string;
}

const BULK =
  "`{ matched, done, lost, dryRun, ids, more? }`; `lost`: changed meanwhile, and left alone; `more`: found by the filter, beyond `limit`";

const ACTIONS: Record<ActionName, ActionText> = {
  stats: {
    what: "Messages by status in the namespace, ages, parked messages; and what this node has counted since its start.",
    returns:
      "`{ pending, published, …, parkedMessages, oldestPendingMs, oldestUnconsumedMs, oldestDeadMs, nodeID, upMs, node }`"
  },
  health: {
    what: "Connections, lease holders and what is in flight on the node that answers. Ask a certain node with `nodeID` in the options of the call.",
    returns:
      "`{ ok, failing, degraded, nodeID, publish, consume, blocked, store, redis, signing, sweeping, leaseHolders, lastSweep, oldestPendingMs, oldestUnconsumedMs, inFlightPublishes, inFlightHandlers, reconnects }`. `ok`: promises can be kept and messages handled; `failing`: texts that say why not; `degraded`: texts about what works on without harm"
  },
  subscriptions: {
    what: "The groups, their queues, and how many messages and consumers each queue has now.",
    returns: "rows `{ group, pattern, queue, ready, consumers, service, lastNode, firstSeenAt, seenAt }`"
  },
  list: {
    what: "Pages of messages, the newest first: open ones by their emit, dead ones by their death, finished ones by their end.",
    returns: "`{ rows, total, page, pageSize, totalPages }`"
  },
  get: {
    what: "Everything about one message.",
    returns: "the message with payload, groups, failures, notes and its `timeline` of `{ at, what }`"
  },
  statuses: {
    what: "The statuses of many messages at once; for nodes without a store, whose emits wait.",
    returns: "rows `{ id, status, reason }`; an id that is not known is left out"
  },
  parked: {
    what: "What could not be read from the wire: a page of it, or with `id` all of one.",
    returns: "`{ rows, total, page, pageSize, totalPages }`, or the one with body, AMQP properties and headers"
  },
  audits: {
    what: "What was discarded or forgotten, by whom and why; the newest 1,000.",
    returns: "rows `{ at, by, act, note, … }`"
  },
  retry: {
    what: "`dead` → `pending`, with fresh attempts, only for the groups that failed.",
    returns: BULK
  },
  resolve: {
    what: "`dead` → `resolved`: dealt with in another way.",
    returns: BULK
  },
  discard: {
    what: "Deletes `dead` messages, or with `parked` parked ones. An audit record stays.",
    returns: BULK
  },
  sweep: {
    what: "One pass over what is due, now, on the node that answers.",
    returns:
      "counts: `{ pages, claimed, confirmed, returned, nacked, refused, unknown, waiting, silent, lost, stopped }`"
  },
  forget: {
    what: "Releases a group that is gone, or one of its patterns: unbinds its queue, deletes its subscription, frees what waits for it alone, and deletes the queue if it is empty. What has consumers stays.",
    returns:
      "`{ group, messages, queues: [{ pattern, queue, ready }], living: [{ pattern, queue, consumers }], dryRun }`"
  }
};

const PARAMS: Record<string, string> = {
  id: "of a message",
  ids: "of messages",
  "parked.id": "of a parked message",
  "discard.parked": "ids of parked messages; needs a `note`, and takes no ids and filters of messages",
  status: "only messages of this status, or of these",
  event: "only messages of this event",
  group: "only messages that this group waits for, has failed or has handled",
  pattern: "only its handler of this event or pattern",
  "forget.group": "the group; its wildcard consumers `<group>:<pattern>` are meant too",
  producer: "only messages emitted by this service (its full name)",
  olderThanMs: "only messages emitted longer ago; `dead` ones: dead for longer; finished ones: finished longer ago",
  youngerThanMs: "only messages emitted since; `dead` ones: dead since; finished ones: finished since",
  page: "number of the page, from 1 (default 1)",
  pageSize: "rows of a page (default 20)",
  note: "why; kept on the message or in the audit record",
  by: "who; without it `ctx.meta.user`, the REPL, or the calling service",
  dryRun: "only tell what would be done",
  limit: "act on so many at most (default: 100 of a filter, all ids)",
  force: "delete its queue although it holds messages"
};

function textOf(action: string, name: string): string {
  const text = PARAMS[`${action}.${name}`] ?? PARAMS[name];
  if (text === undefined) throw new Error(`docs/generate-reference.ts has no text for '${name}' of reliable.${action}`);
  return text;
}

/** Numbers may come as text, and text as a number (the REPL makes them so): it is told as what it is meant to be. */
function typeOf(rule: Rule): string {
  const { type, rules, items } = rule;
  if (type === "array")
    return `list of up to ${rule.max?.toLocaleString("en")} ${typeOf(items as Rule).replace("text", "texts")}`;
  if (type === "multi") {
    const [list, ...single] = (rules as Rule[]).toSorted((a, b) => rank(a) - rank(b));
    if (list?.type === "array") return `${typeOf({ type: "multi", rules: single })}, or a list of up to ${list.max}`;
    const number = rules?.find(one => one.type === "number" && one.min !== undefined);
    return number ? typeOf(number) : `text${lengthOf(rules as Rule[])}`;
  }
  if (type === "number") return `number, ${rule.min} to ${rule.max?.toLocaleString("en")}`;
  return type === "string" ? `text${lengthOf([rule])}` : type;
}

const rank = ({ type }: Rule) => (type === "array" ? 0 : 1);

function lengthOf(rules: Rule[]): string {
  const max = rules.find(({ type }) => type === "string")?.max;
  return max === undefined ? "" : ` (${max})`;
}

function actionsPage(): string {
  const sections = (Object.keys(reliableActions) as ActionName[]).map(name => {
    const { $$strict: _, ...params } = reliableActions[name].params as unknown as Record<string, Rule>;
    const rows = Object.entries(params).map(([param, rule]) => [
      code(param),
      typeOf(rule),
      rule.optional ? "" : "yes",
      textOf(name, param)
    ]);
    const { what, returns } = ACTIONS[name];
    return [
      `## reliable.${name}`,
      what,
      rows.length ? table(["param", "type", "required", "what it is"], rows) : "No params.",
      `Returns ${returns}.`
    ].join("\n\n");
  });
  return page(
    "Actions",
    'Actions of the service `reliable`, which runs on each node with a store (unless `service: false`). Any node may call them: `broker.call("reliable.stats")`, or `call reliable.stats` in the REPL. An unknown param is an error. Their visibility is `public`: not reachable through an API gateway, see [behind an API gateway](../guide/operating.md#behind-an-api-gateway).',
    "A text's length limit stands in brackets. The REPL command `reliable` has the same names, but for `stats`, which stands in `reliable` alone: [operating](../guide/operating.md#dead-messages).",
    "They reject with `RELIABLE_NOT_FOUND`, `RELIABLE_ILLEGAL_TRANSITION`, `RELIABLE_BAD_OPTION`, `RELIABLE_GROUP_ACTIVE`, `RELIABLE_NO_STORE` or `RELIABLE_UNAVAILABLE`: see [errors](errors.md).",
    ...sections
  );
}

/** Params with a text that no action has. */
export function textsWithoutParam(): string[] {
  const used = (Object.keys(reliableActions) as ActionName[]).flatMap(action =>
    Object.keys(reliableActions[action].params).flatMap(param =>
      PARAMS[`${action}.${param}`] === undefined ? [param] : [`${action}.${param}`]
    )
  );
  return Object.keys(PARAMS).filter(name => !used.includes(name));
}

if (process.argv[1]?.endsWith("generate-reference.ts"))
  for (const [file, text] of Object.entries(referencePages())) writeFileSync(file, text);
