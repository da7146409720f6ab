import { type ParseArgsConfig, parseArgs } from "node:util";

/** Said of a mistake in how the command was called. It holds no value of an address. */
export class UsageError extends Error {}

interface Flag {
  /** Of what it takes; none = it is there or not. */
  value?: string;
  /** Where it is read from if it is not given. */
  env: string;
  text: string;
  /** Several, as several flags; in the variable divided by spaces. */
  several?: true;
}

/** Each flag of `dashboard`; its help is made of this. Secrets are better in variables and files: others see flags. */
export const FLAGS = {
  amqp: { value: "URL", env: "RELIABLE_AMQP", text: "RabbitMQ of the cluster; several, divided by commas" },
  mongo: { value: "URL", env: "RELIABLE_MONGO", text: "MongoDB of the cluster" },
  redis: { value: "URL", env: "RELIABLE_REDIS", text: "Redis, if the cluster has one: shows who sweeps" },
  database: { value: "NAME", env: "RELIABLE_DATABASE", text: "MongoDB database (default: the URL's, else reliable)" },
  namespace: { value: "NAME", env: "RELIABLE_NAMESPACE", text: "Moleculer namespace of the cluster (default: none)" },
  transporter: {
    value: "URL",
    env: "RELIABLE_TRANSPORTER",
    text: 'Moleculer\'s; without it nodes show as "not asked"'
  },
  "signing-key-file": {
    value: "FILE",
    env: "RELIABLE_SIGNING_KEY_FILE",
    text: "the cluster's signingKey, one a line; the first signs"
  },
  port: { value: "NUMBER", env: "RELIABLE_DASHBOARD_PORT", text: "where the page is served (default: 3400)" },
  ip: { value: "IP", env: "RELIABLE_DASHBOARD_IP", text: "what to listen on (default: 127.0.0.1, this machine only)" },
  "users-file": {
    value: "FILE",
    env: "RELIABLE_DASHBOARD_USERS_FILE",
    text: "who may log in (HTTP Basic): name:password, one a line"
  },
  anonymous: { env: "RELIABLE_DASHBOARD_ANONYMOUS", text: "nobody logs in: whoever reaches the page may act" },
  "read-only": { env: "RELIABLE_DASHBOARD_READ_ONLY", text: "nobody may do more than look" },
  badge: { value: "TEXT", env: "RELIABLE_DASHBOARD_BADGE", text: "which cluster this is, shown on every page" },
  "hide-payloads": { env: "RELIABLE_DASHBOARD_HIDE_PAYLOADS", text: "payloads are sent only when asked for" },
  "trace-url": {
    value: "URL",
    env: "RELIABLE_DASHBOARD_TRACE_URL",
    text: "a link to a trace, with {traceID}, {requestID}, {id}"
  },
  origin: {
    value: "ORIGIN",
    env: "RELIABLE_DASHBOARD_ORIGINS",
    text: "behind a proxy: how browsers reach the page, https://ops.example.com; may be given more than once",
    several: true
  }
} as const satisfies Record<string, Flag>;

export type FlagName = keyof typeof FLAGS;

const ENTRIES = Object.entries(FLAGS) as [FlagName, Flag][];

/** What was given: a text, several texts, or that it is there. */
export type Given = Partial<Record<FlagName, string | string[] | true>>;

const OPTIONS = {
  ...Object.fromEntries(
    ENTRIES.map(([name, { value, several }]) => [
      name,
      value === undefined ? { type: "boolean" } : { type: "string", multiple: several ?? false }
    ])
  ),
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" }
} as NonNullable<ParseArgsConfig["options"]>;

export interface Called {
  command: string | undefined;
  help: boolean;
  version: boolean;
  given: Given;
}

/** Throws UsageError, which names the flag and none of the values: they may be addresses with passwords. */
export function readFlags(args: string[], env: NodeJS.ProcessEnv): Called {
  const { values, positionals } = parsed(args);
  const [command, ...more] = positionals;
  if (more.length)
    throw new UsageError(
      `${more.length} word(s) after '${command === "dashboard" ? command : "the command"}' belong to no flag; see --help.`
    );
  const { help, version, ...own } = values;
  const given: Given = { ...fromVariables(env), ...(own as Given) };
  for (const [name, value] of Object.entries(given))
    if ([value].flat().includes("")) throw new UsageError(`The flag --${name} has no value.`);
  return { command, help: help === true, version: version === true, given };
}

function parsed(args: string[]): { values: Record<string, unknown>; positionals: string[] } {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true, strict: true });
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    const flag = /'(-{1,2}[\w-]+)/.exec(message)?.[1] ?? "a flag";
    if (code === "ERR_PARSE_ARGS_UNKNOWN_OPTION") throw new UsageError(`There is no flag ${flag}; see --help.`);
    const takes = Object.hasOwn(FLAGS, flag.slice(2)) && "value" in FLAGS[flag.slice(2) as FlagName];
    throw new UsageError(takes ? `The flag ${flag} needs a value.` : `The flag ${flag} takes no value.`);
  }
}

function fromVariables(env: NodeJS.ProcessEnv): Given {
  const found = ENTRIES.flatMap(([name, { env: variable, value, several }]): [FlagName, string | string[] | true][] => {
    const text = env[variable]?.trim();
    if (!text) return [];
    if (several) return [[name, text.split(/\s+/)]];
    if (value !== undefined) return [[name, text]];
    if (/^(true|1|yes)$/i.test(text)) return [[name, true]];
    if (/^(false|0|no)$/i.test(text)) return [];
    throw new UsageError(`The variable ${variable} must be true or false.`);
  });
  return Object.fromEntries(found);
}

/** What `--help` prints. */
export function helpText(): string {
  const rows = ENTRIES.map(([name, { value, env, text }]): [string, string, string] => [
    `--${name}${value === undefined ? "" : ` ${value}`}`,
    text,
    env
  ]);
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return [
    "npx moleculer-reliable-emit dashboard --amqp URL --mongo URL [--redis URL] --namespace NAME (--users-file FILE | --anonymous) …",
    "",
    "Serves the operators' page beside a running cluster. It shows and acts; it tracks, sweeps and prunes nothing, so",
    "the cluster does not depend on it, and it may be ended at any time (Ctrl-C).",
    "",
    ...rows.flatMap(([flag, text, env]) => [
      `  ${flag.padEnd(width)}  ${text}`,
      `  ${"".padEnd(width)}  (also ${env})`
    ]),
    "",
    "Others on this machine can see flags: keep addresses with passwords in the variables. A certificate authority of",
    "your own: NODE_EXTRA_CA_CERTS. Guide: docs/guide/dashboard.md in the package."
  ].join("\n");
}
