import { distance } from "fastest-levenshtein";
import Validator, { type ValidationSchema } from "fastest-validator";
import { ReliableError } from "../errors";
import type { Backoff } from "../message/message";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;
const KIB = 1024;

/**
 * Where an option counts: once per Moleculer node, per service, or per reliable event (then also per service, as its
 * default).
 */
export type OptionScope = "node" | "service" | "event";

interface OptionSpec {
  scope: OptionScope;
  /** fastest-validator rule. */
  rule: Record<string, unknown>;
  default?: unknown;
  /** One line for the README's table: what it is, its unit, the trade-off. */
  doc: string;
}

/** No duration is longer. */
export const LONGEST_MS = 365 * DAY;

const ms = (min = 1, max = LONGEST_MS) => ({ type: "number", integer: true, min, max });
const count = (min = 1, max = 1e6) => ({ type: "number", integer: true, min, max });
const flag = { type: "boolean" };

/** Every option of the mixin. README's options table is tested against this. */
export const OPTIONS = {
  amqp: {
    scope: "node",
    rule: { type: "any" },
    doc: "RabbitMQ: URL, list of URLs tried in turn, or `{ urls, tls }` ([TLS](#tls)). Without it: an in-process courier"
  },
  mongo: {
    scope: "node",
    rule: { type: "any" },
    doc: "MongoDB: URL, `{ url, tls }`, or your own live `MongoClient`. Without it and without `amqp`: an embedded store; with `amqp` alone: no store on this node"
  },
  redis: {
    scope: "node",
    rule: { type: "any" },
    doc: "Redis: URL, `{ url, tls }`, or your own live ioredis client. Without it every sweeping node sweeps, slower; correct all the same"
  },
  path: {
    scope: "node",
    rule: { type: "string", empty: false },
    doc: "Folder of the embedded store. Without it the embedded store is memory and ends with the process"
  },
  database: {
    scope: "node",
    rule: { type: "string", empty: false },
    doc: "MongoDB database. Default: the one in the URL, else `reliable`"
  },
  service: {
    scope: "node",
    rule: flag,
    default: true,
    doc: "Run the service `reliable` (tracker, sweeper, actions) on this node, where it has a store"
  },
  sweeper: {
    scope: "node",
    rule: flag,
    default: true,
    doc: "Let this node compete for sweeping; false = it only tracks and answers actions"
  },
  sweepEveryMs: {
    scope: "node",
    rule: ms(50),
    default: SECOND,
    doc: "Pause between sweeps. Shorter = faster resends, more store reads"
  },
  leaseMs: {
    scope: "node",
    rule: ms(300),
    default: 30 * SECOND,
    doc: "Sweeper lease in Redis. A dead holder is replaced after this at the latest"
  },
  partitions: {
    scope: "node",
    rule: count(1, 64),
    default: 1,
    doc: "Parts of the store swept at the same time, by as many nodes; same value on all nodes"
  },
  pageSize: {
    scope: "node",
    rule: count(1, 5000),
    default: 500,
    doc: "Messages claimed and resent at a time by a sweep"
  },
  claimMs: {
    scope: "node",
    rule: ms(1000),
    default: MINUTE,
    doc: "How long a sweep may hold a page before another may take it; far above what a page takes"
  },
  retainMs: {
    scope: "node",
    rule: ms(SECOND),
    default: 7 * DAY,
    doc: "Final messages and inbox rows are pruned after this. Must exceed the longest outage you want duplicates recognised over"
  },
  refreshMs: {
    scope: "node",
    rule: ms(50),
    default: 5 * SECOND,
    doc: "How often the known groups are read from the store"
  },
  confirmTimeoutMs: {
    scope: "node",
    rule: ms(100),
    default: 30 * SECOND,
    doc: "A publish without the broker's answer counts as unknown after this; not below heartbeat detection (30 s)"
  },
  window: {
    scope: "node",
    rule: count(1, 10_000),
    default: 1000,
    doc: "Publishes in flight on the confirm channel. 100 → 1000: +40 % rate, 8× latency"
  },
  repairEveryMs: {
    scope: "node",
    rule: ms(100),
    default: MINUTE,
    doc: "How often queues, bindings and the exchange are declared again: what somebody deleted comes back"
  },
  emitTimeoutMs: {
    scope: "node",
    rule: ms(),
    default: 30 * SECOND,
    doc: "How long an emit waits for a store that is down before it rejects"
  },
  maxPending: {
    scope: "node",
    rule: count(1),
    default: 10_000,
    doc: "Emits that may wait for the store at once (and 64 MiB); more reject at once"
  },
  askTimeoutMs: {
    scope: "node",
    rule: ms(100),
    default: 10 * SECOND,
    doc: "How long the callback service waits for a producer's answer"
  },
  producerGoneMs: {
    scope: "node",
    rule: ms(1000),
    default: DAY,
    doc: "A message whose producer nobody answers for is `dead` after this"
  },
  drainTimeoutMs: {
    scope: "node",
    rule: ms(0),
    default: 10 * SECOND,
    doc: "How long the stop of a node waits in all, from its first service's stop on, for handlers, receipts, confirms and status writes. Then connections are closed, which takes up to 2 s more where a server does not answer (a handshake is one round trip; after 2 s the server is taken for frozen and the socket is destroyed). What is not finished is sent again later. Give the process 5 s more than this before SIGKILL"
  },
  lifecycleEvents: {
    scope: "node",
    rule: { type: "enum", values: [false, "emit", "broadcast"] },
    default: false,
    doc: "Tell other nodes what becomes of messages, as Moleculer events `reliable.consumed`, `reliable.dead`, …: to one instance of each service (`emit`), or to all. One event per batch of receipts"
  },
  strategy: {
    scope: "service",
    rule: { type: "enum", values: ["outbox", "callback"] },
    default: "outbox",
    doc: "`outbox`: message in the store first. `callback`: no store on the producer's path; a delayed check asks for it afterwards"
  },
  maxAttempts: {
    scope: "service",
    rule: count(1, 100),
    default: 3,
    doc: "Attempts per message and group before it is `dead`"
  },
  backoff: {
    scope: "service",
    rule: {
      type: "object",
      strict: true,
      properties: {
        initialMs: { ...ms(), optional: true },
        maxMs: { ...ms(), optional: true },
        jitter: { type: "enum", values: ["none", "half", "full"], optional: true }
      }
    },
    default: { initialMs: SECOND, maxMs: 5 * MINUTE, jitter: "half" } satisfies Backoff,
    doc: "Delay after a failed attempt: doubles from `initialMs` to `maxMs`; `jitter` none, half or full"
  },
  receiptTimeoutMs: {
    scope: "service",
    rule: ms(100),
    default: MINUTE,
    doc: "Silence after a confirmed publish that makes it the sweeper's business; above the consumers' `handlerTimeoutMs`"
  },
  checkDelaysMs: {
    scope: "service",
    rule: { type: "array", items: ms(100), min: 1, max: 20 },
    default: [30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE],
    doc: "Delays of the checks of strategy `callback` and of intents, in turn, increasing; one RabbitMQ queue per distinct delay. Their number is `callback`'s default for `maxAttempts`"
  },
  maxPayloadBytes: {
    scope: "service",
    rule: count(1, 16 * KIB * KIB),
    default: 256 * KIB,
    doc: "Cap on the JSON of a payload; store a reference for more"
  },
  maxInFlight: {
    scope: "event",
    rule: count(1, 5000),
    default: 50,
    doc: "Deliveries a consumer holds at once (AMQP prefetch)"
  },
  handlerTimeoutMs: {
    scope: "event",
    rule: ms(10, 29 * MINUTE),
    default: 30 * SECOND,
    doc: "A handler that has not answered counts as failed; below RabbitMQ's own 30 min"
  },
  inbox: {
    scope: "event",
    rule: { type: "multi", rules: [flag, { type: "equal", value: "transaction", strict: true }] },
    default: true,
    doc: 'Remember handled ids per group, so that a duplicate is answered and not handled again; needs a store on the node. `"transaction"`: in one MongoDB transaction with the handler\'s writes'
  },
  deliveryLimit: {
    scope: "event",
    rule: count(1, 1000),
    default: 20,
    doc: "RabbitMQ's fuse against a message whose consumers die on it"
  }
} as const satisfies Record<string, OptionSpec>;

export type OptionName = keyof typeof OPTIONS;

/** RabbitMQ addresses. `tls`: options of Node.js' `tls.connect` (`ca`, `cert`, `key`, `servername`, …). */
export type AmqpOption = string | string[] | { urls: string | string[]; tls?: Record<string, unknown> };

/** One address, with options of Node.js' `tls.connect`. */
export interface Secured {
  url: string;
  tls?: Record<string, unknown>;
}

/** undefined: a live client. */
export function withTls(option: unknown): Secured | undefined {
  if (typeof option === "string") return { url: option };
  return isPlain(option) && "url" in option ? (option as unknown as Secured) : undefined;
}

export interface NodeOptions {
  amqp?: AmqpOption;
  /** URL, Secured, or a live MongoClient (never closed by us). */
  mongo?: string | object;
  /** URL, Secured, or a live ioredis client (never closed by us). */
  redis?: string | object;
  path?: string;
  database?: string;
  service: boolean;
  sweeper: boolean;
  sweepEveryMs: number;
  leaseMs: number;
  partitions: number;
  pageSize: number;
  claimMs: number;
  retainMs: number;
  refreshMs: number;
  confirmTimeoutMs: number;
  window: number;
  repairEveryMs: number;
  emitTimeoutMs: number;
  maxPending: number;
  askTimeoutMs: number;
  producerGoneMs: number;
  drainTimeoutMs: number;
  lifecycleEvents: "emit" | "broadcast" | false;
}

export interface ConsumerOptions {
  maxInFlight: number;
  handlerTimeoutMs: number;
  inbox: boolean | "transaction";
  deliveryLimit: number;
}

export interface ServiceOptions extends ConsumerOptions {
  strategy: "outbox" | "callback";
  maxAttempts: number;
  backoff: Backoff;
  /** Default for `callback`: one attempt per check. */
  callbackAttempts: number;
  receiptTimeoutMs: number;
  checkDelaysMs: number[];
  maxPayloadBytes: number;
  /** Set by ReliableAmqpQueue: its messages go to queues that are nobody's group. */
  sendsJobs?: boolean;
}

/** What the mixin takes: all optional, see OPTIONS for defaults. */
export type ReliableOptions = Partial<NodeOptions> &
  Partial<Omit<ServiceOptions, "backoff" | "callbackAttempts" | "sendsJobs">> & { backoff?: Partial<Backoff> };

const validator = new Validator({ useNewCustomCheckerFunction: true });
/** Compiling a schema costs far more than checking with it, and emits are checked one by one. */
const compiled = new WeakMap<object, (values: object) => true | object[] | Promise<unknown>>();

function checkerOf(schema: Record<string, object>): (values: object) => unknown {
  let checker = compiled.get(schema);
  if (!checker) {
    const rules = Object.fromEntries(Object.entries(schema).map(([name, rule]) => [name, { ...rule, optional: true }]));
    checker = validator.compile(rules as ValidationSchema);
    compiled.set(schema, checker);
  }
  return checker;
}

type Values = Record<string, unknown>;

/** Names of a scope; `service` includes the event options, as their defaults. */
function namesOf(scopes: OptionScope[]): OptionName[] {
  return (Object.keys(OPTIONS) as OptionName[]).filter(name => scopes.includes(OPTIONS[name].scope));
}

/**
 * Checks given values against a schema. Throws RELIABLE_BAD_OPTION naming the option, with a suggestion for an unknown
 * one. Returns a copy with strings from the environment converted.
 */
export function check(
  where: string,
  schema: Record<string, object>,
  values: Values,
  type: "RELIABLE_BAD_OPTION" | "RELIABLE_BAD_CONSUMER" = "RELIABLE_BAD_OPTION"
): Values {
  for (const name of Object.keys(values)) {
    if (name in schema) continue;
    const near = Object.keys(schema).sort((a, b) => distance(a, name) - distance(b, name))[0];
    const hint =
      near && distance(near.toLowerCase(), name.toLowerCase()) <= Math.max(2, near.length / 3)
        ? ` Did you mean '${near}'?`
        : "";
    throw new ReliableError(type, `Unknown option '${name}' in ${where}.${hint}`, {
      option: name,
      suggestion: hint ? near : undefined
    });
  }
  const copy = structuredCopy(values);
  const result = checkerOf(schema)(copy);
  if (Array.isArray(result)) {
    const [first] = result as { type: string; field: string; message?: string; actual?: unknown }[];
    // A nested unknown key is reported by the validator under its parent.
    const text =
      first?.type === "objectStrict"
        ? `Unknown option '${first.field}.${String(first.actual)}'`
        : first?.message?.replace(/^The '([^']*)' field/, "The option '$1'");
    const oneOf =
      first?.type === "enumValue" || first?.type === "stringEnum"
        ? `The option '${first.field}' must be one of ${String((first as { expected?: unknown }).expected)}`
        : undefined;
    throw new ReliableError(
      type,
      `${(oneOf ?? text ?? "Bad option").replace(/[.!]$/, "")} in ${where} (given: ${describe(copy, first?.field)}).`,
      { option: first?.field }
    );
  }
  return copy;
}

/**
 * Live clients and TLS material must not be cloned; plain option objects must not be changed by the validator's
 * conversions.
 */
function structuredCopy(values: Values): Values {
  return Object.fromEntries(
    Object.entries(values)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, isPlain(value) ? structuredCopy(value) : value])
  );
}

function isPlain(value: unknown): value is Values {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

function describe(values: Values, field: string | undefined): string {
  const value = field?.split(".").reduce<unknown>((at, key) => (isPlain(at) ? at[key] : undefined), values);
  return typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : typeof value === "string" && !["amqp", "mongo", "redis"].includes(field ?? "")
      ? JSON.stringify(value)
      : value === null
        ? "null"
        : typeof value;
}

interface Rule {
  type: string;
  rules?: Rule[];
}

function fromText(rule: Rule): Rule {
  const { type, rules } = rule;
  return {
    ...rule,
    ...(type === "number" || type === "boolean" ? { convert: true } : {}),
    ...(rules ? { rules: rules.map(fromText) } : {})
  };
}

function rulesOf(names: OptionName[]): Record<string, object> {
  return Object.fromEntries(names.map(name => [name, OPTIONS[name].rule]));
}

/** Objects and lists cannot come from a variable. */
export function hasVariable(name: OptionName): boolean {
  return !["object", "array"].includes(OPTIONS[name].rule.type);
}

/** RELIABLE_AMQP, RELIABLE_SWEEP_EVERY_MS, …: scalar options from the environment. */
export function fromEnvironment(environment: NodeJS.ProcessEnv = process.env): Values {
  const values: Values = {};
  for (const name of Object.keys(OPTIONS) as OptionName[]) {
    const value = environment[environmentName(name)];
    if (value !== undefined && value !== "" && hasVariable(name))
      values[name] = name === "lifecycleEvents" && value === "false" ? false : value;
  }
  return values;
}

export function environmentName(option: OptionName): string {
  return `RELIABLE_${option.replace(/[A-Z]/g, letter => `_${letter}`).toUpperCase()}`;
}

function checkAddresses(values: Values): void {
  const bad = (option: string, want: string) => {
    throw new ReliableError("RELIABLE_BAD_OPTION", `The option '${option}' must be ${want}.`, { option });
  };
  const urlOk = (url: unknown, protocols: string[]) => {
    if (
      typeof url !== "string" ||
      !protocols.some(protocol => url.startsWith(`${protocol}://`) && url.length > protocol.length + 3)
    )
      return false;
    // Its part after the slash would be taken for host and path, and told as such.
    if (/^[^/]*\/\/[^/?#]*[/?#][^?]*@/.test(url))
      bad(
        protocols[0] === "mongodb" ? "mongo" : (protocols[0] as string),
        "a URL whose user and password have / ? # and @ percent-encoded (%2F %3F %23 %40)"
      );
    return true;
  };
  const { amqp, mongo, redis } = values;
  if (amqp !== undefined) {
    checkTls("amqp", "urls", amqp);
    const given = isPlain(amqp) ? amqp.urls : amqp;
    const urls = (Array.isArray(given) ? given : typeof given === "string" ? given.split(/[;,]/) : []).map(url =>
      typeof url === "string" ? url.trim() : url
    );
    if (!urls.length || !urls.every(url => urlOk(url, ["amqp", "amqps"])))
      bad("amqp", "an amqp:// or amqps:// URL, a list of them, or { urls, tls }");
    if (isPlain(amqp) && amqp.tls && !urls.every(url => urlOk(url, ["amqps"])))
      bad("amqp", "given with amqps:// where it has 'tls': amqp:// is not encrypted");
  }
  for (const [option, value, protocols, client, mark] of [
    ["mongo", mongo, ["mongodb", "mongodb+srv"], "MongoClient", "db"],
    ["redis", redis, ["redis", "rediss"], "ioredis client", "defineCommand"]
  ] as const) {
    if (value === undefined || (typeof value === "object" && value !== null && mark in value)) continue;
    if (isPlain(value)) checkTls(option, "url", value);
    const { url, tls } = withTls(value) ?? {};
    if (!urlOk(url, [...protocols])) bad(option, `a ${protocols[0]}:// URL, { url, tls }, or a live ${client}`);
    if (tls && option === "redis" && !urlOk(url, ["rediss"]))
      bad(option, "given with rediss:// where it has 'tls': redis:// is not encrypted");
    if (tls && option === "mongo" && /[?&](tls|ssl)=false/i.test(url as string))
      bad(option, "given without tls=false in the URL where it has 'tls'");
  }
}

function checkTls(option: string, address: string, value: unknown): void {
  if (!isPlain(value)) return;
  const strange =
    Object.keys(value).find(key => key !== address && key !== "tls") ??
    (value.tls !== undefined && !isPlain(value.tls) ? "tls" : undefined);
  if (strange !== undefined)
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The option '${option}' must be given as { ${address}, tls } and nothing else, with 'tls' an object (see '${strange}').`,
      { option }
    );
}

const ALL_RULES = rulesOf(namesOf(["node", "service", "event"]));
/** Whatever comes from the environment is text. */
const TEXT_RULES = Object.fromEntries(Object.entries(ALL_RULES).map(([name, rule]) => [name, fromText(rule as Rule)]));
const EVENT_RULES = rulesOf(namesOf(["event"]));

function checkDelays(delays: unknown): void {
  if (Array.isArray(delays) && delays.some((delay, i) => i > 0 && delay <= delays[i - 1])) {
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The option 'checkDelaysMs' must increase (given: ${delays.join(", ")}).`,
      { option: "checkDelaysMs" }
    );
  }
}

/** What a service has given, checked, without defaults: argument over settings over environment. */
export function readOptions(
  argument: Values = {},
  settings: Values = {},
  environment: Values = fromEnvironment()
): Values {
  const values = {
    ...check("the environment (RELIABLE_…)", TEXT_RULES, environment),
    ...check("settings.reliable", ALL_RULES, settings),
    ...check("ReliableEmit()", ALL_RULES, argument)
  };
  checkAddresses(values);
  checkDelays(values.checkDelaysMs);
  return values;
}

function withDefaults(names: OptionName[], values: Values): Values {
  const result: Values = {};
  for (const name of names) {
    const spec: OptionSpec = OPTIONS[name];
    const value = values[name] ?? spec.default;
    result[name] = isPlain(spec.default) ? { ...spec.default, ...(values[name] as object | undefined) } : value;
  }
  return result;
}

export function nodeOptions(values: Values): NodeOptions {
  return withDefaults(namesOf(["node"]), values) as unknown as NodeOptions;
}

export function serviceOptions(values: Values): ServiceOptions {
  const options = withDefaults(namesOf(["service", "event"]), values) as unknown as ServiceOptions;
  return { ...options, callbackAttempts: (values.maxAttempts as number | undefined) ?? options.checkDelaysMs.length };
}

/** Options of one reliable event: `reliable: true` or `{…}` over the service's defaults. */
export function consumerOptions(where: string, value: unknown, service: ServiceOptions): ConsumerOptions {
  if (value !== true && !isPlain(value))
    throw new ReliableError("RELIABLE_BAD_CONSUMER", `'reliable' in ${where} must be true or an object of options.`, {
      option: "reliable"
    });
  const names = namesOf(["event"]);
  const own = value === true ? {} : check(where, EVENT_RULES, value, "RELIABLE_BAD_CONSUMER");
  return withDefaults(names, {
    ...Object.fromEntries(names.map(name => [name, service[name as keyof ConsumerOptions]])),
    ...own
  }) as unknown as ConsumerOptions;
}

/**
 * Node options given by several services of one broker: each may add, none may contradict, since there is one
 * connection pair, one store client and one sweeper per node. Throws RELIABLE_BAD_OPTION naming the option.
 */
export function mergeNode(into: Values, values: Values, service: string): void {
  const why = (name: string) =>
    `The service '${service}' gives the option '${name}' another value than a service before it on this node; it counts once per node.`;
  merge(into, values, service, namesOf(["node"]), why);
}

/** The same for the mixin used twice in one service, by itself and by a mixin of its own. */
export function mergeService(into: Values, values: Values, service: string): void {
  merge(
    into,
    values,
    service,
    namesOf(["service", "event"]),
    name => `The service '${service}' has the mixin ReliableEmit more than once, with different '${name}'.`
  );
}

function merge(
  into: Values,
  values: Values,
  service: string,
  names: OptionName[],
  why: (name: string) => string
): void {
  for (const name of names) {
    const value = values[name];
    if (value === undefined) continue;
    if (into[name] !== undefined && !same(into[name], value))
      throw new ReliableError("RELIABLE_BAD_OPTION", why(name), { option: name, service });
    into[name] = value;
  }
}

function same(a: unknown, b: unknown): boolean {
  return a === b || ((isPlain(a) || Array.isArray(a)) && JSON.stringify(a) === JSON.stringify(b));
}
