import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { ReliableOptions } from "../../options/options";
import type { OwnPortDashboardOptions } from "../options";
import { FLAGS, type FlagName, type Given, UsageError } from "./flags";

/** What the command makes of its flags. */
export interface Settings {
  broker: { namespace: string; nodeID: string; transporter?: string };
  reliable: ReliableOptions;
  dashboard: OwnPortDashboardOptions;
}

/** Throws UsageError. */
export function settingsOf(given: Given): Settings {
  for (const name of ["amqp", "mongo"] as const)
    if (given[name] === undefined)
      throw new UsageError(
        `The flag --${name} is missing (or the variable ${FLAGS[name].env}): the address of the cluster's.`
      );
  const text = (name: FlagName) => given[name] as string | undefined;
  const transporter = text("transporter");
  return {
    broker: {
      namespace: text("namespace") ?? "",
      nodeID: `dashboard-${hostname()}-${process.pid}`,
      ...(transporter !== undefined && { transporter })
    },
    reliable: {
      observer: true,
      ...texts(given, { amqp: "amqp", mongo: "mongo", redis: "redis", database: "database" }),
      ...signing(text("signing-key-file"))
    },
    dashboard: {
      ...who(given),
      ...port(text("port")),
      ...texts(given, { ip: "ip", "trace-url": "traceUrl" }),
      ...(text("badge") !== undefined && { badge: { text: text("badge") as string } }),
      ...(given.origin && { origins: given.origin as string[] }),
      readOnly: given["read-only"] === true,
      hidePayloads: given["hide-payloads"] === true
    }
  };
}

/** The flags that are there, by the names of the options. */
function texts(given: Given, names: Partial<Record<FlagName, string>>): Record<string, string> {
  const entries = Object.entries(names) as [FlagName, string][];
  return Object.fromEntries(
    entries.flatMap(([flag, option]) => (given[flag] ? [[option, given[flag] as string]] : []))
  );
}

function port(text: string | undefined): { port?: number } {
  if (text === undefined) return {};
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < 1 || number > 65_535)
    throw new UsageError("The flag --port must be a number from 1 to 65535.");
  return { port: number };
}

function who(given: Given): Pick<OwnPortDashboardOptions, "access" | "users"> {
  const file = given["users-file"] as string | undefined;
  if (file === undefined && !given.anonymous)
    throw new UsageError(
      "Who may use the page? --users-file FILE (name:password, one a line), or --anonymous: whoever reaches it may act."
    );
  if (file !== undefined && given.anonymous)
    throw new UsageError("The flags --users-file and --anonymous contradict each other.");
  return file === undefined ? { access: "anonymous" } : { users: usersIn(file) };
}

function usersIn(file: string): Record<string, string> {
  const users = linesOf(file, "users-file").map((line, at): [string, string] => {
    const [name = "", ...password] = line.split(":");
    if (!name || !password.join(":"))
      throw new UsageError(`The flag --users-file: line ${at + 1} of ${file} is not name:password.`);
    return [name, password.join(":")];
  });
  return Object.fromEntries(users);
}

function signing(file: string | undefined): Pick<ReliableOptions, "signingKey"> {
  return file === undefined ? {} : { signingKey: linesOf(file, "signing-key-file") };
}

/** Those with something in them, but for comments. */
function linesOf(file: string, flag: FlagName): string[] {
  let content: string;
  try {
    content = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`The flag --${flag}: ${(error as Error).message}.`);
  }
  const lines = content.split(/\r?\n/).filter(line => line.trim() && !line.startsWith("#"));
  if (!lines.length) throw new UsageError(`The flag --${flag}: ${file} has no line with something in it.`);
  return lines;
}
