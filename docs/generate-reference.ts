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
  "`{ matched, done, lost, dryRun, ids, more?, capped?, waiting?, outcomes? }`; `lost`: changed meanwhile, and left alone; `more`: beyond `limit`; `capped`: even more than that; `waiting`: not discarded, since other groups are waited for. With `id`, `ids` or `parked`, `outcomes` has `{ id, outcome, status?, reason? }` for each: `done`, `possible` (dry run), `lost`, `not-found`, `illegal` (its state does not allow it), `unreadable`, `failed` (the store refuses it). One id of a list that is wrong harms no other; `id`, or one text in `parked`, rejects if it is wrong";

const BULK_ACT =
  "`{ bulkID, act, filter, state, by, onBehalfOf?, note?, startedAt, endedAt?, why?, matched, capped?, done, overtaken, refused, waiting?, skipped?, notReplayable?, perSecond, pace?, left?, leftMs? }`";

const ONE_BULK =
  "also `nodeID` (who works at it), `changes` (what humans did with it meanwhile), and of a retry or a replay `handled` and `failedAgain` as they are now (`moreOutcomes`: of those there are more than 100,000)";

const CAPPED =
  ". `total` is counted up to 1,000, and for 2 s at most; of a filter by event, group, producer or error, among the newest 1,000 of each status (of the key, of the request): with `capped` there is more than `total` (the REPL shows `1,000+`). Exact ones: `stats`, and `bulk` with `dryRun`. With `estimated`, where nothing but statuses was asked for, `total` is reckoned from the database's own number of its rows. `nextCursor`, if there is a next page, is its `cursor`";

const PAUSE =
  "`{ group, pattern?, since, by, note, marked, queues: [{ pattern, queue, ready, consumers }] }`; `marked`: RabbitMQ has been told (false: it does not answer, and is told later)";

const ACTIONS: Record<ActionName, ActionText> = {
  stats: {
    what: "Messages by status in the namespace, ages, parked messages; and what this node has counted since its start.",
    returns:
      "`{ pending, published, …, parkedMessages, heldKeys, waitForTurn, paused, capped?, estimated?, oldestPendingMs, oldestUnconsumedMs, oldestDeadMs, nodeID, upMs, node }`. What is not finished is counted up to 100,000, what is finished up to 10,000; `heldKeys` (messages that hold their order key) and `waitForTurn` (messages behind others of their key, in all groups that wait for them; one that another group has just handled counts a `receiptTimeoutMs` later) up to 10,000: `capped` lists the names of those of which there are more, `estimated` those whose number is reckoned from the database's own number of its rows"
  },
  health: {
    what: "Connections, lease holders and what is in flight on the node that answers. Ask a certain node with `nodeID` in the options of the call.",
    returns:
      "`{ ok, failing, degraded, nodeID, publish, consume, blocked, store, redis, signing, sweeping, paused, breakers, leaseHolders, lastSweep, oldestPendingMs, oldestUnconsumedMs, inFlightPublishes, inFlightHandlers, reconnects }`. `ok`: promises can be kept and messages handled; `failing`: texts that say why not; `degraded`: texts about what works on without harm"
  },
  overview: {
    what: "What to do, in one sentence, and how everything is: messages, groups, servers, nodes. One read per node and 5 s serves all who ask; it answers within some 2 s, whatever is away.",
    returns:
      "`{ sentence, level, also, at, nodeID, messages, groups, servers, nodes, leaseHolders?, paused, breakers, bulks, keys }`. `level`: `ok`, `watch` (it goes on by itself), `act` (somebody has to do something); `also`: sentences about what else there is; `messages`: `{ byStatus, parked, capped, oldestPendingMs, oldestUnconsumedMs, oldestDeadMs }`, null while the store does not say; `groups`: rows `{ group, ready, consumers, dead, deadCapped?, handledPerMinute, failedPerMinute, lastNode, lastSeenAt, queues }`; `servers`: rows `{ name, ok, text, awaySinceAt? }`; `nodes`: rows `{ nodeID, kind, answers, reason?, lastSeenAt?, health? }`, one that does not answer within 2 s among them; `keys`: `{ held, behind, capped, longest }`, null while the store does not say: how many messages hold their order key, how many wait for their turn, and rows of `keys` of those held longest"
  },
  history: {
    what: "What was counted, by time. Minutes are kept for 24 h, hours for 30 d.",
    returns:
      "`{ fromAt, toAt, stepMs, boundsMs, steps, total, capped? }`. A step: `{ at, emitted, confirmed, handled, failed, duplicates, dead, times, p50Ms, p95Ms, p99Ms }`; `times`: how many handlers took how long, per bucket of `boundsMs` and one above; the percentiles are estimated from them. Without `fromAt` the last hour, in steps of a minute; at most 1,500 steps, and for what is older than 24 h whole hours. Instants are Dates, ISO text or ms since 1970"
  },
  subscriptions: {
    what: "The groups, their queues, and how many messages and consumers each queue has, at most 5 s ago.",
    returns: "rows `{ group, pattern, queue, ready, consumers, service, lastNode, firstSeenAt, seenAt, paused? }`"
  },
  list: {
    what: "Pages of messages, the newest first: open ones by their emit, dead ones by their death, finished ones by their end. With `idPrefix` in the order of ids, the greatest first. `errorType`, `cause`, `errorText`, `deadFromAt` and `deadToAt` find dead messages only.",
    returns: `\`{ rows, total, capped?, estimated?, pageSize, nextCursor? }\`${CAPPED}`
  },
  causes: {
    what: "What messages have died of, by group, event, cause and type of the error, the most frequent first. One with several failed groups counts for each. Looked at are the newest dead messages, 1,000 or `limit` (with `key`, `requestID`, `idPrefix` or `errorType`: the newest of these).",
    returns:
      "`{ rows, messages, capped?, newest?, moreRows? }`, rows `{ count, group, event, cause, errorName, errorType, errorText, firstAt, lastAt, nodes, moreNodes?, sampleId }`, 200 at most. `messages`: so many are of the filter; `capped`: among the `newest` that were looked at, and there are older ones. `errorType`: of the error, or its code, or its name; `errorText`: its message without numbers and ids"
  },
  get: {
    what: "Everything about one message.",
    returns:
      "the message with payload, meta, `groups` (rows `{ group, state, attempts, ageMs, nextAt?, reason? }`, of one that is behind others with its `orderKey` the reason names the message before it; `state`: `handled`, `waiting`, `failed`, `resolved`) and its `timeline` of `{ at, what }`"
  },
  statuses: {
    what: "The statuses of many messages at once; for nodes without a store, whose emits wait.",
    returns: "rows `{ id, status, reason }`; an id that is not known is left out"
  },
  parked: {
    what: "What could not be read from the wire: a page of it, or with `id` all of one.",
    returns:
      "`{ rows, total, capped?, page, pageSize, totalPages }` (counted up to 1,000; exact in `stats`), or the one with body, AMQP properties and headers"
  },
  audits: {
    what: "Who did what, when and why, the newest first: one record for each `retry`, `resolve`, `discard`, `cancel`, `skip`, `forget`, `erase`, `sweep`, `pause`, `resume`, `replay` and bulk act that had something to do, or with `id` all of one.",
    returns:
      "`{ rows, total, page, pageSize, totalPages }`, rows `{ auditID, at, act, by, onBehalfOf, state, note, filter, id, parked, group, pattern, event, queue, reason, endedAt, error, earlier }` and the act's counts (`matched`, `done`, `lost`, `more`, `refused`, `failed`; of a sweep its own). `state`: `begun` (under way, or its process died), `done`, `failed`, `stopped` (a bulk act). Of one also `ids` (500 at most) and `discarded`, rows `{ id, event, producer, queue, reason, createdAt, bytes }`"
  },
  retry: {
    what: "`dead` → `pending`, with fresh attempts, only for the groups that failed.",
    returns: BULK
  },
  resolve: {
    what: "`dead` → `resolved`: dealt with in another way. Only the groups that failed: where others are still waited for, the message goes on, and is `resolved` at its end. Needs a `note`, but for a `dryRun`.",
    returns: BULK
  },
  cancel: {
    what: "`scheduled` → `cancelled`: it is not sent. Needs a `note`, but for a `dryRun`. `RELIABLE_ILLEGAL_TRANSITION` if it has begun to be sent.",
    returns: BULK
  },
  keys: {
    what: "Order keys that are held, and by what, the longest held first. A message that has failed for good in a group holds its key there, unless its `onDead` is `skip`: those behind it wait until it is handled, or a human acts.",
    returns:
      "`{ rows, more }`, rows `{ key, group, id, event, since, heldMs, reason?, behind, capped? }`, one for each group; `id`: the message that holds it; `behind`: how many wait behind it in the group, counted up to 1,000 (`capped`: there are more). `more`: there are others, beyond `limit`"
  },
  skip: {
    what: "Resolves the dead message that holds an order key, with a note, so that the next one of the key gets its turn: as `resolve`, which it is in all else. `RELIABLE_NOT_FOUND` if the key is not held; it says who has the turn. Needs a `note`, but for a `dryRun`.",
    returns: BULK
  },
  discard: {
    what: "Deletes `dead` messages that no group is waited for any more, or with `parked` parked ones. A record of each stays. Needs a `note`, but for a `dryRun`.",
    returns: BULK
  },
  sweep: {
    what: "One pass over what is due, now, on the node that answers.",
    returns:
      "counts: `{ pages, claimed, confirmed, returned, nacked, refused, unknown, waiting, silent, lost, stopped }`"
  },
  forget: {
    what: "Releases a group that is gone, or one of its patterns: unbinds its queue, deletes its subscription, frees what waits for it alone, and deletes the queue if it is empty. What has consumers stays. Needs a `note`, but for a `dryRun`.",
    returns:
      "`{ group, messages, queues: [{ pattern, queue, ready }], living: [{ pattern, queue, consumers }], dryRun }`"
  },
  bulk: {
    what: "Begins a bulk act: `retry`, `resolve` or `discard` of all dead messages that match, in pages, at a rate, in the background; it survives every process. What dies after its start is left alone. Of one act and filter one is under way at a time (`RELIABLE_BULK_RUNNING`).",
    returns:
      "`{ id?, matched, capped?, waiting?, perSecond, dryRun, text, countedAt?, underWay? }`, at once; `text` says in words what it does. No `id` with `dryRun`, and where nothing matches. Counted up to 100,000: with `capped` there are more, and all of them are acted on. With `dryRun`, `countedAt` is when it was counted, and `underWay: { id, by, startedAt }` is the one of the same act and filter that is under way: it would be refused"
  },
  bulks: {
    what: "Bulk acts, the newest first, or with `id` all of one.",
    returns: `\`{ rows, total, capped?, page, pageSize, totalPages }\`, rows ${BULK_ACT}; \`state\`: \`running\`, \`paused\`, \`stopping\`, \`stopped\` (\`why\`: by whom, or that too many were dead again), \`done\`, \`failed\` (\`why\`). Of one ${ONE_BULK}`
  },
  bulkChange: {
    what: "Pauses, resumes or stops a bulk act, or changes its rate. A page under way, 500 messages at most, is finished first. It is kept with the bulk act who did it.",
    returns: `the bulk act: ${BULK_ACT}; ${ONE_BULK}`
  },
  replay: {
    what: "Sends kept messages (finished ones too) that were emitted in a time to one group, new or old: a bulk act (`bulks`, `bulkChange`), in pages, at a rate, in the background. Each goes as a message of its own, so that no status of its original moves; a handler sees `ctx.locals.reliable.replay`. What the group has handled is not handled again, but with `again`.",
    returns:
      "`{ id?, matched, capped?, skipped, notReplayable, perSecond, dryRun, text, countedAt?, underWay? }`; without `id` nothing was begun. `skipped`: the group has handled them, waits for them or has failed in them, or they are for others; `notReplayable`: there is no payload (any more); `countedAt` and `underWay` as of `bulk`"
  },
  bulkLook: {
    what: "From node to node: there is a bulk act to be worked at, or to be watched until its claim ends.",
    returns: "nothing"
  },
  pause: {
    what: "The group, or one of its patterns, takes nothing until it is resumed, on all nodes and across restarts. Handlers that run end as usual, what none has begun goes back to its queue; nothing counts as failed. Needs a `note`. Rejects with `RELIABLE_NOT_FOUND`, `RELIABLE_ILLEGAL_TRANSITION` (paused already), `RELIABLE_UNSUPPORTED` (a queue of moleculer-amqp-queue none of whose workers has our mixin).",
    returns: `${PAUSE}. It answers when nobody consumes any more, or after 5 s: \`consumers\` that are left have handlers that still run, or know no pauses`
  },
  resume: {
    what: "It takes messages again. Rejects with `RELIABLE_NOT_FOUND`, `RELIABLE_ILLEGAL_TRANSITION` (it is not paused itself).",
    returns: `${PAUSE}. \`since\`, \`by\` and \`note\` are those of the pause`
  },
  paused: {
    what: "What is paused now, the longest first.",
    returns: "rows `{ group, pattern?, since, pausedMs, by, note, queues, text }`"
  },
  erase: {
    what: "Drops the payloads of all finished messages with this key, with meta, headers and the texts of errors; their rows stay. What is not finished keeps its payload, and is told. Needs a `note`, but for a `dryRun`. See [personal data](../guide/personal-data.md).",
    returns:
      "`{ key, erased, already, left: [{ status, messages, why }], capped?, dryRun }`; `already`: finished ones that had no payload any more; `left`: what keeps its payload, and why"
  }
};

const PARAMS: Record<string, string> = {
  id: "of a message",
  ids: "of messages",
  "parked.id": "of a parked message",
  "audits.id": "of an act: its `auditID`",
  "discard.parked": "ids of parked messages; takes no ids and filters of messages",
  act: "what is done with the messages",
  "bulk.status": "may be given, and can only be `dead`",
  "bulks.id": "of a bulk act",
  "bulkChange.id": "of a bulk act",
  change: "what is done with it; `rate` takes `perSecond`",
  perSecond: "messages per second (default 100)",
  countedAt:
    "`countedAt` of a `dryRun` that somebody has seen, an hour ago at most: what came since is left alone (default: now)",
  "replay.group": "whom they are sent to: a group that has consumed at least once, or one of its handlers",
  "replay.event": "only this event; without it all that the group takes",
  "replay.fromAt": "emitted then or later: ISO text (UTC where it names no zone), or ms since 1970",
  "replay.toAt": "emitted before then (default: now)",
  again: "what the group has handled is handled once more; needs a `note`",
  "bulkChange.perSecond": "messages per second, with `rate`",
  "causes.limit": "so many of the newest dead messages are looked at (default 1,000)",
  "causes.status": "may be given, and can only be `dead`",
  status: "only messages of this status, or of these",
  "keys.key": "only this order key",
  "keys.limit": "so many at most (default 100)",
  "skip.key": "the order key",
  "skip.group": "only what has failed in this group; what is done is of all groups that have failed",
  event: "only messages of this event",
  group: "only messages that have failed in this group; what is done is of all groups that have failed",
  "list.group": "only messages that this group waits for, has failed or has handled",
  pattern: "only its handler of this event or pattern",
  "pause.group":
    "the group; a wildcard consumer of it may be `<group>:<pattern>`; a queue of moleculer-amqp-queue is `queue/<name>`",
  "resume.group": "as it was paused",
  "paused.event": "only what keeps groups from taking this event",
  "forget.group": "the group; its wildcard consumers `<group>:<pattern>` are meant too",
  producer: "only messages emitted by this service (its full name)",
  "erase.key": "a message key, as `name=value`",
  olderThanMs: "only messages emitted longer ago; `dead` ones: dead for longer; finished ones: finished longer ago",
  youngerThanMs: "only messages emitted since; `dead` ones: dead since; finished ones: finished since",
  idPrefix: "only messages whose id begins so; a list is then in the order of ids",
  requestID: "only messages emitted in this request",
  key: "only messages with this key (`order=42`), or with all of these",
  errorType:
    "only dead messages of which a group has failed with an error of this type, or code, or name. What is asked about an error, and `group`, is about one and the same",
  cause:
    "only dead messages with this cause: `handler`, `rejected`, `silence`, `unroutable`, `refused`, `crash-loop`, `source`, `displaced`",
  errorText: "only dead messages with this text, as `causes` tells it",
  deadFromAt: "only messages that died then or later: ISO text (UTC where it names no zone), or ms since 1970",
  deadToAt: "only messages that died before then",
  cursor: "`nextCursor` of the page before, with the same filter",
  page: "number of the page, from 1 (default 1)",
  pageSize: "rows of a page (default 20)",
  note: "why; kept in the audit record and on the message",
  by: "who, where `ctx.meta.user` names nobody; without it the REPL, or the calling service. It never takes a user's place: what it says beside one is kept as `onBehalfOf`",
  dryRun: "only tell what would be done",
  limit: "act on so many at most (default: 100 of a filter, all ids)",
  force: "delete its queue although it holds messages",
  fromAt:
    "from then on: ISO text (UTC where it names no zone), or ms since 1970; rounded down to a step (default: an hour before `toAt`)",
  toAt: "until then (default: now)",
  stepMs: "length of a step: whole minutes (default: one)",
  "history.event": "only of this event",
  "history.group": "only of this group: what has no group, as emits, is left out"
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
    if (rules?.some(one => one.type === "date")) return "instant";
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
    "A text's length limit stands in brackets. The REPL command `reliable` has the same names, but for `stats`, whose counts `reliable` alone has too: [operating](../guide/operating.md#dead-messages).",
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
