import { type BrokerOptions, ServiceBroker } from "moleculer";
import { ReliableDashboardService } from "../../../mixins/dashboard.service";
import { ReliableService } from "../../../mixins/reliable.service";
import { reasonOf, redact } from "../../errors";
import { FLAGS, type FlagName } from "./flags";
import type { Settings } from "./settings";

/** A node beside the cluster, with the page. Returns what ends it. Rejects with what the user has to mend. */
export async function runDashboard({ broker: of, reliable, dashboard }: Settings): Promise<() => Promise<void>> {
  const broker = new ServiceBroker({
    ...of,
    // Why a start has failed is told in our own words.
    logger: { type: "Console", options: { level: { BROKER: "fatal", "**": "warn" }, colors: false } },
    // The command ends by itself, once.
    skipProcessEventRegistration: true
  } as BrokerOptions);
  try {
    broker.createService(ReliableService(reliable));
    broker.createService(ReliableDashboardService(dashboard));
    await broker.start();
  } catch (error) {
    await broker.stop().catch(() => undefined);
    throw error;
  }
  return () => broker.stop();
}

/** What the user is told once it runs. */
export function runningText({ broker, reliable, dashboard }: Settings): string {
  const { ip = "127.0.0.1", port = 3400, readOnly } = dashboard;
  const host = ip.includes(":") ? `[${ip}]` : ip;
  const where = [reliable.amqp, reliable.mongo, reliable.redis].flatMap(url => (url ? redact(String(url)) : []));
  return [
    `The dashboard${readOnly ? " (read only)" : ""} of namespace '${broker.namespace}': http://${host}:${port}/`,
    `Beside the cluster on ${where.join(", ")}. It tracks, sweeps and prunes nothing. Ctrl-C ends it.`
  ].join("\n");
}

/** An error of an option, as one of the flag that gives it. */
export function failureText(error: unknown): string {
  const { type, data } = error as { type?: unknown; data?: { option?: unknown } };
  const text = `${typeof type === "string" ? `${type}: ` : ""}${reasonOf(error)}`;
  const flag = FLAG_OF[String(data?.option)] ?? data?.option;
  return typeof flag === "string" && Object.hasOwn(FLAGS, flag) ? `--${flag}: ${text}` : text;
}

/** Where an option is not named as its flag. */
const FLAG_OF: Record<string, FlagName> = {
  signingKey: "signing-key-file",
  users: "users-file",
  traceUrl: "trace-url",
  origins: "origin"
};
