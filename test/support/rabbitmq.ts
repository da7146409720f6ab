import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { type ConfirmChannel, connect } from "amqplib";
import { urls } from "./servers";

const run = promisify(execFile);
const SERVERS = path.resolve(__dirname, "../servers/servers");

const BROKER_WIDE = ["set_vm_memory_high_watermark", "set_disk_free_limit", "stop_app", "close_all_connections"];

/**
 * rabbitmqctl on the node under test; RABBITMQCTL overrides the command, e.g. `docker exec rabbit rabbitmqctl`. Takes a
 * second or two.
 */
export async function rabbitmqctl(...args: string[]): Promise<string> {
  if (args.some(arg => BROKER_WIDE.includes(arg)))
    throw new Error(`'${args.join(" ")}' hits every test of this broker; use an ownServer("rabbitmq").`);
  const [file, ...before] = process.env["RABBITMQCTL"]?.split(" ") ?? [SERVERS, "ctl"];
  const { stdout } = await run(file, [...before, ...args], {
    env: { ...process.env, AMQP_PORT: new URL(urls().amqp).port }
  });
  return stdout;
}

/** Closes, from the broker's side, the connections of one node of ours. Returns how many. */
export async function closeConnectionsOf(nodeID: string): Promise<number> {
  const listed = await rabbitmqctl("-q", "list_connections", "pid", "client_properties");
  const pids = listed
    .split("\n")
    .filter(line => line.includes(`reliable:${nodeID}:`))
    .map(line => line.split("\t")[0]);
  await Promise.all(pids.map(pid => rabbitmqctl("-q", "close_connection", pid, "closed by a test")));
  return pids.length;
}

/** How many channels RabbitMQ itself counts on each connection of one node of ours. */
export async function channelsOf(nodeID: string): Promise<number[]> {
  const listed = await rabbitmqctl("-q", "list_connections", "channels", "client_properties");
  return listed
    .split("\n")
    .filter(line => line.includes(`reliable:${nodeID}:`))
    .map(line => Number(line.split("\t")[0]))
    .sort((a, b) => a - b);
}

/**
 * Resolves when RabbitMQ itself sees that it is gone. It looks into a table that follows what was written by some
 * milliseconds; in RabbitMQ 4.3.6 a binding made within these is kept without being routed, for ever.
 */
export async function deleteExchange(name: string): Promise<void> {
  await atBroker(channel => channel.deleteExchange(name));
  const isThere = () =>
    atBroker(channel => channel.checkExchange(name)).then(
      () => true,
      () => false
    );
  while (await isThere());
}

export async function versionOf(): Promise<string> {
  const model = await connect(urls().amqp);
  const { version } = model.connection.serverProperties;
  await model.close();
  return version;
}

/** Before 4.3 what a consumer gives back comes nearer to its delivery limit. */
export async function countsReturns(): Promise<boolean> {
  const [major = 0, minor = 0] = (await versionOf()).split(".").map(Number);
  return major < 4 || (major === 4 && minor < 3);
}

/** Does something to the broker behind the library's back. */
export async function atBroker<T>(work: (channel: ConfirmChannel) => Promise<T>): Promise<T> {
  const model = await connect(urls().amqp, { noDelay: true });
  model.on("error", () => undefined);
  try {
    const channel = await model.createConfirmChannel();
    channel.on("error", () => undefined);
    return await work(channel);
  } finally {
    await model.close();
  }
}
