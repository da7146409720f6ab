import type { Channel, ChannelModel, ConfirmChannel, Replies } from "amqplib";
import { CLOSE_MS, TIMED_OUT, withTimeout } from "../../async/deadline";
import { ReliableError, ReliableRetryableError, reasonOf } from "../../errors";
import type { Clock } from "../../platform/clock";
import { destroySocket } from "./sockets";
import type { ExchangeDeclaration, QueueDeclaration } from "./topology";

/**
 * A healthy cluster answers in milliseconds. One without a quorum, or its node that is alone, answers a change after
 * 30 s, by closing the connection (RabbitMQ 4.3).
 */
export const DECLARE_MS = 5000;

/** Of one queue, which may have lost its members; the cluster may be well. */
const NO_ANSWER = `RabbitMQ does not answer a declare within ${DECLARE_MS} ms`;

/** Of the host. */
export const NO_QUORUM = `RabbitMQ takes no change within ${DECLARE_MS} ms`;

/** Not told as a fault of what should be declared. */
export class NoAnswer extends ReliableRetryableError {
  constructor(said: string) {
    super("RELIABLE_UNAVAILABLE", `${said}.`);
  }
}

/**
 * Runs `work` on a channel of its own. When the broker refuses something it closes the channel, and that affects
 * nothing else. Throws NoAnswer after DECLARE_MS, and drops the connection, on which nothing else is done: what is
 * answered later would close it, when it may be of use again.
 */
export async function onTemporaryChannel<T>(
  model: ChannelModel,
  work: (channel: Channel) => Promise<T>,
  said = NO_ANSWER
): Promise<T> {
  const answer = await withTimeout(worked(model, work), DECLARE_MS);
  if (answer !== TIMED_OUT) return answer;
  destroySocket(model, said);
  throw new NoAnswer(said);
}

async function worked<T>(model: ChannelModel, work: (channel: Channel) => Promise<T>): Promise<T> {
  const channel = await model.createChannel();
  ignoreErrors(channel);
  try {
    return await work(channel);
  } finally {
    discardChannel(channel);
  }
}

/**
 * A channel without an `error` listener ends its whole connection when the broker closes it. The result is seen
 * elsewhere.
 */
export function ignoreErrors(channel: Channel): void {
  channel.on("error", () => undefined);
  channel.on("handler-error", () => undefined);
}

/**
 * amqplib's `close()` never settles when the connection is lost before the answer, and rejects when it was closed
 * already.
 */
export async function closeChannel(channel: Channel, withinMs: number, clock: Clock): Promise<void> {
  const closed = new Promise<void>(resolve => {
    channel.once("close", resolve);
    channel.close().then(resolve, resolve);
  });
  await withTimeout(closed, Math.min(withinMs, CLOSE_MS), clock);
}

/**
 * A healthy broker opens a channel in milliseconds. A connection that cannot is dropped before its heartbeat notices.
 */
const OPEN_TIMEOUT_MS = 10_000;

/** `opened` is called in the turn in which the channel opens: what comes on it must not be missed. */
export async function openConfirmChannel(
  model: ChannelModel,
  clock: Clock,
  opened: (channel: ConfirmChannel) => void
): Promise<void> {
  let late = false;
  const opening = model.createConfirmChannel().then(channel => (late ? discardChannel(channel) : opened(channel)));
  if ((await withTimeout(opening, OPEN_TIMEOUT_MS, clock)) !== TIMED_OUT) return;
  late = true;
  throw new Error(`no channel within ${OPEN_TIMEOUT_MS} ms`);
}

/** For declaring, deleting and looking at queues. */
const SPARE_CHANNELS = 3;

/** Throws RELIABLE_TOO_MANY_CHANNELS. `limit`: channels that the broker allows the connection. */
export function assertChannels(limit: number, queues: number, queue: string): void {
  const channels = queues + SPARE_CHANNELS;
  if (channels <= limit) return;
  throw new ReliableError(
    "RELIABLE_TOO_MANY_CHANNELS",
    `Queue ${queue} cannot be consumed: this node needs a channel for each of its ${queues} queues and ${SPARE_CHANNELS} more, and RabbitMQ allows a connection ${limit} (channel_max).`,
    { queue, limit, channels }
  );
}

/** Closes the channel without waiting for the broker's answer. */
export function discardChannel(channel: Channel): void {
  channel.close().catch(() => undefined);
}

export async function assertExchange(channel: Channel, exchange: ExchangeDeclaration): Promise<void> {
  try {
    await channel.assertExchange(exchange.name, exchange.type, { durable: true });
  } catch (thrown) {
    throw declareError(
      thrown,
      `exchange ${exchange.name}`,
      "delete the exchange and restart, or use another namespace"
    );
  }
}

export async function assertQueue(
  channel: Channel,
  exchange: ExchangeDeclaration,
  queue: QueueDeclaration
): Promise<void> {
  try {
    await channel.assertQueue(queue.name, { durable: true, arguments: queue.arguments });
    for (const key of queue.bindings) await channel.bindQueue(queue.name, exchange.name, key);
  } catch (thrown) {
    throw declareError(
      thrown,
      `queue ${queue.name}`,
      "shovel its messages to another queue (its service cannot start to drain it), delete it, start, and shovel them back; or rename the group",
      queue.name
    );
  }
}

/** On channels of its own. Throws as `assertQueue`. */
export async function ensureQueue(
  model: ChannelModel,
  exchange: ExchangeDeclaration,
  queue: QueueDeclaration
): Promise<void> {
  if (queue.foreign && (await isThere(model, queue.name))) return;
  await onTemporaryChannel(model, channel => assertQueue(channel, exchange, queue));
}

/** A passive declare without arguments: the broker has nothing to compare. */
async function isThere(model: ChannelModel, name: string): Promise<boolean> {
  try {
    await onTemporaryChannel(model, channel => channel.checkQueue(name));
    return true;
  } catch (thrown) {
    if (isMissing(thrown)) return false;
    if (thrown instanceof NoAnswer) throw thrown;
    throw declareError(thrown, `queue ${name}`, "close the connection that holds it exclusively", name);
  }
}

/** undefined = there is no such queue. */
export async function inspectQueue(model: ChannelModel, name: string): Promise<Replies.AssertQueue | undefined> {
  try {
    return await onTemporaryChannel(model, channel => channel.checkQueue(name));
  } catch (thrown) {
    if (isMissing(thrown)) return undefined;
    if (thrown instanceof NoAnswer) throw thrown;
    throw new ReliableRetryableError(
      "RELIABLE_UNAVAILABLE",
      `Could not look at queue ${name}: ${reasonOf(thrown)}.`,
      { queue: name },
      thrown
    );
  }
}

export function codeOf(thrown: unknown): number | undefined {
  const code = (thrown as { code?: unknown } | null)?.code;
  return typeof code === "number" ? code : undefined;
}

/**
 * RabbitMQ answers 404 also for a queue that exists and cannot be reached at the moment: its node is down, or another
 * channel is just making it.
 */
export function isDown(thrown: unknown): boolean {
  return reasonOf(thrown).includes("is down or inaccessible");
}

function isMissing(thrown: unknown): boolean {
  return codeOf(thrown) === 404 && !isDown(thrown);
}

function declareError(thrown: unknown, what: string, remedy: string, queue?: string): Error {
  const code = codeOf(thrown);
  const said = /with message "(.*)"$/s.exec(reasonOf(thrown))?.[1] ?? reasonOf(thrown);
  if (code === 406 && said.includes("inequivalent arg"))
    return new ReliableError(
      "RELIABLE_QUEUE_MISMATCH",
      `The ${what} exists with other arguments: ${said}. To migrate: ${remedy}.`,
      { queue, said },
      thrown
    );
  // RESOURCE_LOCKED.
  if (code === 405)
    return new ReliableError(
      "RELIABLE_QUEUE_MISMATCH",
      `Another connection has the ${what} for itself: ${said}. Close that connection, or rename the group.`,
      { queue, said },
      thrown
    );
  if (code === 403)
    return new ReliableError(
      "RELIABLE_ACCESS_REFUSED",
      `The broker user may not declare the ${what}: ${said}.`,
      { queue },
      thrown
    );
  return new ReliableRetryableError(
    "RELIABLE_UNAVAILABLE",
    `Could not declare the ${what}: ${said}.`,
    { queue },
    thrown
  );
}
