import type { IncomingMessage } from "node:http";
import { ReliableError } from "../errors";
import { check, isPlain } from "../options/validate";
import type { AccessOf } from "./access";
import type { EnvironmentBadge } from "./api";
import type { Redact } from "./payloads";

/** What both ways to serve the page have. */
export interface CommonOptions<User = unknown, Payload = unknown> {
  /**
   * What somebody may do, asked at each call: "all", "read", a list of acts, or false. `"anonymous"`: nobody has to log
   * in, and everybody may do all. Default: who has logged in may do all.
   */
  access?: "anonymous" | AccessOf<User>;
  /** Nobody may do more than look. @default false */
  readOnly?: boolean;
  /** Which cluster this is: shown at the top of each page. */
  badge?: EnvironmentBadge;
  /** Payloads (and meta) are sent only when somebody asks for one. @default false */
  hidePayloads?: boolean;
  /** What of a payload may be seen. Where it throws or returns nothing, nothing of it is shown. */
  redact?: Redact<Payload>;
  /** A link to a trace, with `{traceID}`, `{requestID}` and `{id}`. */
  traceUrl?: string;
  /** Where the page is reached under other names than the server is asked by: `["https://ops.example.com"]`. */
  origins?: string[];
}

/** Options of `ReliableDashboard()`. */
export interface GatewayDashboardOptions<User = unknown, Payload = unknown> extends CommonOptions<User, Payload> {
  /** Below the `path` of the gateway's settings. @default "/reliable" */
  path?: string;
  /** As of a route of moleculer-web: true = the method `authenticate`, or a method's name. */
  authentication?: boolean | string;
  /** As of a route of moleculer-web: true = the method `authorize`, or a method's name. */
  authorization?: boolean | string;
  /** Of a route of moleculer-web: `rateLimit`, `onBeforeCall`, `logging` (default: false). */
  routeOptions?: Record<string, unknown>;
}

/** Options of `ReliableDashboardService()`. One of `users`, `authentication` and `access: "anonymous"` is needed. */
export interface OwnPortDashboardOptions<User = unknown, Payload = unknown> extends CommonOptions<User, Payload> {
  /** @default 3400 */
  port?: number;
  /** What to listen on. @default "127.0.0.1": this machine only */
  ip?: string;
  /** @default "/" */
  path?: string;
  /** Names and passwords (HTTP Basic). */
  users?: Record<string, string>;
  /** Who asks; null: nobody who is known. */
  authentication?: (req: IncomingMessage) => User | null | undefined | Promise<User | null | undefined>;
}

/** What the page's server goes by. */
export interface DashboardOptions {
  access: "anonymous" | AccessOf | undefined;
  readOnly: boolean;
  badge: EnvironmentBadge | undefined;
  hidePayloads: boolean;
  redact: Redact | undefined;
  traceUrl: string | undefined;
  origins: string[];
  /** Without a slash at its end: "" is the root. */
  path: string;
}

const text = { type: "string", empty: false };
const hook = { type: "function" };

const COMMON = {
  access: { type: "multi", rules: [{ type: "equal", value: "anonymous", strict: true }, hook] },
  readOnly: { type: "boolean" },
  badge: {
    type: "object",
    strict: true,
    props: {
      text: { ...text, max: 40 },
      tone: { type: "enum", values: ["red", "amber", "green", "blue"], optional: true }
    }
  },
  hidePayloads: { type: "boolean" },
  redact: hook,
  traceUrl: { ...text, max: 2000 },
  origins: { type: "array", items: text },
  path: text
};

const NAMED = { type: "multi", rules: [{ type: "boolean" }, text] };

const GATEWAY = {
  ...COMMON,
  authentication: NAMED,
  authorization: NAMED,
  routeOptions: {
    type: "object",
    strict: true,
    props: {
      rateLimit: { type: "object", optional: true },
      onBeforeCall: { ...hook, optional: true },
      logging: { type: "boolean", optional: true }
    }
  }
};

const OWN_PORT = {
  ...COMMON,
  port: { type: "number", integer: true, min: 0, max: 65_535 },
  ip: text,
  users: { type: "object" },
  authentication: hook
};

/** Throws RELIABLE_BAD_OPTION. */
export function badOption(option: string, message: string): ReliableError {
  return new ReliableError("RELIABLE_BAD_OPTION", message, { option });
}

const GATEWAY_WHERE = "ReliableDashboard()";
const OWN_PORT_WHERE = "ReliableDashboardService()";

/** Throws RELIABLE_BAD_OPTION. */
export function gatewayOptions(given: GatewayDashboardOptions): DashboardOptions {
  check(GATEWAY_WHERE, GATEWAY, given as Record<string, unknown>);
  const guarded = Boolean(given.authentication) || Boolean(given.authorization);
  checkGuard(GATEWAY_WHERE, given.access, guarded, "'authentication' or 'authorization'");
  return resolved(GATEWAY_WHERE, given, "/reliable");
}

/** Throws RELIABLE_BAD_OPTION. */
export function ownPortOptions(given: OwnPortDashboardOptions): DashboardOptions {
  // Passwords are not for the text of an error.
  const { users, ...others } = given;
  check(OWN_PORT_WHERE, OWN_PORT, others as Record<string, unknown>);
  checkGuard(
    OWN_PORT_WHERE,
    given.access,
    Boolean(given.authentication) || users !== undefined,
    "'users' or 'authentication'"
  );
  if (users !== undefined && given.authentication)
    throw badOption("users", `${OWN_PORT_WHERE} takes either 'users' or 'authentication', not both.`);
  if (users !== undefined) checkUsers(users);
  return resolved(OWN_PORT_WHERE, given, "/");
}

function checkGuard(where: string, access: unknown, guarded: boolean, names: string): void {
  if (!guarded && access !== "anonymous")
    throw badOption(
      "authentication",
      `${where} needs ${names}; or say access: "anonymous", and everybody who reaches it may do everything.`
    );
  if (guarded && access === "anonymous")
    throw badOption("access", `${where} has ${names} and access: "anonymous"; it is either one or the other.`);
}

function checkUsers(users: unknown): void {
  const bad = (why: string) => badOption("users", `The option 'users' in ${OWN_PORT_WHERE} ${why}.`);
  if (!isPlain(users) || !Object.keys(users).length) throw bad("must be an object of names and passwords");
  for (const [name, password] of Object.entries(users)) {
    if (name === "" || name.includes(":")) throw bad(`has a name that HTTP Basic cannot carry: '${name}'`);
    if (typeof password !== "string" || password === "") throw bad(`has no password for '${name}'`);
  }
}

function resolved(where: string, given: CommonOptions & { path?: string }, preset: string): DashboardOptions {
  const { access, readOnly = false, badge, hidePayloads = false, redact, traceUrl, origins = [] } = given;
  return {
    ...{ access, readOnly, badge, hidePayloads, redact },
    traceUrl: traceUrl === undefined ? undefined : checkedUrl(where, traceUrl),
    origins: origins.map(origin => checkedOrigin(where, origin)),
    path: checkedPath(where, given.path ?? preset)
  };
}

/** What a router would read as a pattern is no part of it. */
function checkedPath(where: string, path: string): string {
  if (path === "/") return "";
  if (/^(\/[A-Za-z0-9._~-]+)+\/?$/.test(path) && !/\/\.{1,2}(\/|$)/.test(path)) return path.replace(/\/$/, "");
  throw badOption("path", `The option 'path' in ${where} must be like /reliable or /ops/reliable (given: "${path}").`);
}

function checkedOrigin(where: string, origin: string): string {
  const url = URL.canParse(origin) ? new URL(origin) : undefined;
  if (url && ["http:", "https:"].includes(url.protocol) && url.href === `${url.origin}/`) return url.origin;
  throw badOption(
    "origins",
    `The option 'origins' in ${where} must have origins like https://ops.example.com (given: "${origin}").`
  );
}

/** It becomes a link of the page. */
function checkedUrl(where: string, url: string): string {
  if (/^https?:\/\//i.test(url)) return url;
  throw badOption(
    "traceUrl",
    `The option 'traceUrl' in ${where} must begin with https:// or http:// (given: "${url}").`
  );
}
