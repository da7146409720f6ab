import type { EventEmitter } from "node:events";
import type { ChannelModel, SocketOptions } from "amqplib";
import { CLOSE_MS, withTimeout } from "../../async/deadline";
import { ReliableError, ReliableRetryableError, reasonOf, redact, sanitizeError } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { tlsFailure } from "../../platform/tls";
import type { ConnectionStatus } from "../courier";
import type { BrokerAddress } from "./addresses";
import type { Hosts } from "./hosts";
import { refusalOf } from "./refusal";
import { closeModel, destroySocket, gatherWrites, isClosed } from "./sockets";
import { checkVersion } from "./version";
import { whyRefused } from "./why-refused";

/**
 * Half a second is longer than the short interruptions of a broker's restart. Half a minute keeps a thousand nodes from
 * overloading a broker that comes back.
 */
const RECONNECT = { initialMs: 500, maxMs: 30_000, jitter: "half" } as const;

/** Bytes of frames on their way to the socket, so that they are sent together. amqplib holds back the rest. */
const WRITE_BUFFER_BYTES = 256 * 1024;

/**
 * A connection that lived this long shows that the broker is healthy, so the next loss starts the backoff from the
 * beginning.
 */
const STABLE_MS = 10_000;

/** The broker has closed because of a publish: it is there, and the other publishes wait. */
const REFUSED_PAUSE_MS = 50;

/** TCP's own limit is minutes. */
const CONNECT_TIMEOUT_MS = 10_000;

export interface ConnectionOptions {
  purpose: "publish" | "consume" | "declare" | "isolate";
  hosts: Hosts;
  nodeID: string;
  logger: Logger;
  clock: Clock;
  socket?: SocketOptions;
  /**
   * Called after each (re)connect. When it rejects, the connection is dropped and opened again; at the first start a
   * ReliableError ends the start.
   */
  onUp(model: ChannelModel): Promise<void>;
  onDown(reason: string, host: BrokerAddress): void;
  onBlocked(reason: string | undefined): void;
  onFailure(error: Error): void;
}

/**
 * One connection and the loop that keeps it open: hosts in turn, jittered backoff, ended only by `close()`. After a loss
 * the next host comes first: the one that was lost may be there and answer nothing.
 */
export class AmqpConnection {
  model: ChannelModel | undefined;
  reconnects = 0;
  #since: Date | undefined;
  #host: BrokerAddress | undefined;
  /** `onUp` has ended. */
  #up = false;
  /** It has moved from there, and what was begun there ends there. */
  #leaving: ChannelModel | undefined;
  #waiting: (() => void)[] = [];
  #lost: (error: unknown) => void = () => undefined;
  #lastError: string | undefined;
  readonly #end = new AbortController();
  /** Abort connects under way. They are not used on an open connection, which must be closed with a handshake. */
  readonly #connecting = new Set<AbortController>();
  #loop: Promise<void> | undefined;

  constructor(private readonly options: ConnectionOptions) {}

  get status(): ConnectionStatus {
    return {
      connected: this.model !== undefined,
      address: this.#host?.label,
      since: this.#since,
      lastError: this.#lastError
    };
  }

  /** Where it is connected to. */
  get host(): BrokerAddress | undefined {
    return this.model && this.#host;
  }

  /** Channels that the broker allows; unlimited while not connected. */
  get channelMax(): number {
    const { connection } = this.model ?? {};
    return (connection as { channelMax?: number } | undefined)?.channelMax ?? Number.POSITIVE_INFINITY;
  }

  /** Resolves after the first round through the hosts, connected or not; rejects if it can never succeed. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#loop ??= this.#run(resolve, reject);
    });
  }

  /** Resolves when it is connected, at the latest after `ms`. */
  async whenUp(ms: number): Promise<void> {
    if (!this.model && !this.closed)
      await withTimeout(new Promise<void>(resolve => this.#waiting.push(resolve)), ms, this.options.clock);
  }

  /** Closes with a handshake; if the other end has not answered within `withinMs`, the socket is destroyed. */
  async close(withinMs = CLOSE_MS): Promise<void> {
    if (this.closed) return this.#loop;
    this.#end.abort();
    for (const connecting of this.#connecting) connecting.abort();
    for (const up of this.#waiting.splice(0)) up();
    const { clock } = this.options;
    const open = [this.model, this.#leaving].filter(model => model !== undefined);
    await Promise.all(open.map(model => closeModel(model, Math.min(withinMs, CLOSE_MS), clock)));
    await this.#loop;
  }

  /** Drops a connection that does not answer, without waiting for its heartbeat. */
  destroy(reason: string): void {
    if (this.model) destroySocket(this.model, reason);
  }

  /**
   * To another host, without a moment between. `prove`: that it is of use; until then nothing has changed. `carry` takes
   * over what the connection is for; the one of before is closed after it. Rejects when that host does not take it, or
   * `carry` rejects; then the connection is opened again.
   */
  async move(
    host: BrokerAddress,
    prove: (model: ChannelModel) => Promise<void>,
    carry: (model: ChannelModel) => Promise<void>
  ): Promise<void> {
    const { clock, logger, purpose } = this.options;
    const before = this.model;
    const from = this.#host;
    // What is just being opened would take the new one for its own.
    if (!before || !from || !this.#up || this.closed) return;
    const model = await this.#connect(host);
    try {
      await prove(model);
      if (isClosed(model)) throw new Error("connection lost");
    } catch (thrown) {
      destroySocket(model, reasonOf(thrown));
      throw thrown;
    }
    if (this.closed || this.model !== before) return destroySocket(model, "overtaken");
    this.#leaving = before;
    this.#adopt(model, host);
    try {
      await carry(model);
      logger.info(`RabbitMQ ${purpose} connection has moved from ${from.label} to ${host.label}.`);
    } catch (thrown) {
      if (this.model === model) this.destroy(reasonOf(thrown));
      throw thrown;
    } finally {
      await closeModel(before, CLOSE_MS, clock);
      this.#leaving = undefined;
    }
  }

  async #run(started: () => void, refused: (error: Error) => void): Promise<void> {
    const { clock, hosts } = this.options;
    let failures = 0;
    for (let first = true; !this.closed; first = false) {
      const opened = await this.#round();
      if (this.closed) {
        if (!(opened instanceof Error)) destroySocket(opened.model, "closed");
        break;
      }
      if (opened instanceof Error) {
        if (first && opened instanceof ReliableError) return refused(opened);
        this.#note(opened);
        if (first) started();
        await clock.sleep(backoffMs(RECONNECT, ++failures), this.#end.signal);
        continue;
      }
      const since = clock.monotonic();
      const lost = new Promise<unknown>(resolve => (this.#lost = resolve));
      this.#adopt(opened.model, opened.host);
      try {
        await this.options.onUp(opened.model);
        this.#up = this.model === opened.model;
        if (first) started();
      } catch (thrown) {
        // One that is being closed ends with its handshake, and has failed of nothing else.
        if (this.model === opened.model && !this.closed) this.destroy(reasonOf(thrown));
        if (first && thrown instanceof ReliableError) return refused(thrown);
        if (first) started();
        if (this.model) this.#note(thrown);
      }
      const refusal = refusalOf(await lost);
      if (this.closed) break;
      if (refusal) {
        await clock.sleep(REFUSED_PAUSE_MS, this.#end.signal);
        this.reconnects++;
        continue;
      }
      if (this.#host) hosts.leave(this.#host);
      if (clock.monotonic() - since >= STABLE_MS) failures = 0;
      // All nodes lose a restarting broker at the same instant. The jitter keeps them from coming back at once.
      await clock.sleep(backoffMs(RECONNECT, ++failures), this.#end.signal);
      this.reconnects++;
    }
    started();
  }

  /**
   * Tries each host once. An error is final only if every host gives it: one with old credentials must not stop the
   * others.
   */
  async #round(): Promise<{ model: ChannelModel; host: BrokerAddress } | Error> {
    const { hosts } = this.options;
    let passing: Error | undefined;
    let fatal: ReliableError | undefined;
    for (const host of hosts.inTurn()) {
      if (this.closed) break;
      try {
        return { model: await this.#connect(host), host };
      } catch (thrown) {
        hosts.leave(host);
        const error = await this.#connectError(thrown, host);
        if (error instanceof ReliableError) fatal = error;
        else passing = error;
      }
    }
    return passing ?? fatal ?? new Error("closed");
  }

  /** A ReliableError for what does not pass by itself; it ends a start. Anything else is tried again. */
  async #connectError(thrown: unknown, address: BrokerAddress): Promise<Error> {
    const { socket, clock } = this.options;
    // The broker answers `open` by closing; amqplib does not pass its text on.
    if (!/Expected ConnectionOpenOk; got <ConnectionClose/.test(reasonOf(thrown)))
      return connectError(thrown, address.label);
    return openError(await whyRefused(address, socket, clock), address.label);
  }

  async #connect(address: BrokerAddress): Promise<ChannelModel> {
    // Loaded here, so that a process with the embedded courier alone never loads it.
    const { connect, credentials } = await import("amqplib");
    const { purpose, nodeID, socket } = this.options;
    const connecting = new AbortController();
    this.#connecting.add(connecting);
    const model = await connect(address.url, {
      timeout: CONNECT_TIMEOUT_MS,
      ...(address.login && { credentials: credentials.plain(...address.login) }),
      ...socket,
      // Nagle and delayed acks together cost 44 ms a message above 2 KiB.
      noDelay: true,
      highWaterMark: WRITE_BUFFER_BYTES,
      keepAlive: true,
      signal: connecting.signal,
      clientProperties: { ...socket?.clientProperties, connection_name: `reliable:${nodeID}:${purpose}` }
    } as SocketOptions).finally(() => this.#connecting.delete(connecting));
    // A connection that opens during a stop is destroyed at once, and an `error` without a listener would end the
    // process.
    model.on("error", () => undefined);
    try {
      checkVersion(model, address.label);
    } catch (thrown) {
      destroySocket(model, "wrong version");
      throw thrown;
    }
    gatherWrites(model);
    return model;
  }

  /**
   * Adds all listeners before anything else: an `error` without a listener ends the process.
   */
  #adopt(model: ChannelModel, host: BrokerAddress): void {
    const { onBlocked, onDown, purpose, logger } = this.options;
    let reason = "connection closed";
    this.model = model;
    this.#host = host;
    this.#since = new Date(this.options.clock.now());
    if (this.#lastError) logger.info(`RabbitMQ ${purpose} connection is up again at ${host.label}.`);
    this.#lastError = undefined;
    model.on("error", error => void (reason = reasonOf(error)));
    // ChannelModel does not forward this event; amqplib emits it on the connection underneath.
    (model.connection as unknown as EventEmitter).on("handler-error", (error: unknown) =>
      logger.error("An AMQP listener threw:", error)
    );
    model.on("handler-error", () => undefined);
    const blocked = (why: string | undefined) => this.model === model && onBlocked(why);
    model.on("blocked", why => blocked(why || "blocked by the broker"));
    model.on("unblocked", () => blocked(undefined));
    model.once("close", error => {
      // It has moved.
      if (this.model !== model) return;
      this.model = undefined;
      this.#up = false;
      this.#since = undefined;
      if (error) reason = reasonOf(error);
      this.#note(new Error(reason));
      onDown(reason, host);
      this.#lost(error);
    });
    for (const up of this.#waiting.splice(0)) up();
  }

  /** A failure is reported once; its repetitions are logged as debug only. What a close brings about is none. */
  #note(thrown: unknown): void {
    if (this.closed) return;
    const text = reasonOf(thrown);
    const { logger, purpose, onFailure } = this.options;
    if (text === this.#lastError) {
      logger.debug(`RabbitMQ ${purpose} connection: ${text}`);
      return;
    }
    this.#lastError = text;
    logger.warn(`RabbitMQ ${purpose} connection: ${text}`);
    onFailure(thrown as Error);
  }

  /** Closed, or about to be, from this side. */
  get closed(): boolean {
    return this.#end.signal.aborted;
  }
}

/**
 * RabbitMQ has no such vhost, or the user no access to it. Limits of connections, and a vhost that is down or starting,
 * pass. Its texts: `rabbit_reader.erl`, `rabbit_access_control.erl`.
 */
const NO_VHOST = /vhost .* not found|access to vhost '.*' refused for user '[^']*'$/;

function openError(said: string | undefined, label: string): Error {
  const told = said === undefined ? "it does not say why" : redact(said);
  return said !== undefined && NO_VHOST.test(said)
    ? new ReliableError(
        "RELIABLE_ACCESS_REFUSED",
        `RabbitMQ at ${label} does not have the vhost in option \`amqp\`, or the user has no access to it: ${told}.`,
        { option: "amqp", address: label }
      )
    : new ReliableRetryableError(
        "RELIABLE_UNAVAILABLE",
        `RabbitMQ at ${label} takes no connection at the moment: ${told}.`,
        { address: label }
      );
}

/** A ReliableError for an error that does not pass by itself. */
function connectError(thrown: unknown, label: string): Error {
  if (thrown instanceof ReliableError) return thrown;
  const text = reasonOf(thrown);
  if (/ACCESS_REFUSED|ACCESS-REFUSED/.test(text)) {
    return new ReliableError(
      "RELIABLE_ACCESS_REFUSED",
      `RabbitMQ at ${label} refused user or password. Check the credentials in option \`amqp\` (special characters must be percent-encoded; guest may log in from localhost only).`,
      { option: "amqp", address: label }
    );
  }
  // With several addresses Node.js puts the errors into one that has no text of its own.
  const why = thrown instanceof AggregateError ? String((thrown as { code?: string }).code) : text;
  return (
    tlsFailure("RabbitMQ", "amqp", label, thrown) ??
    Object.assign(new Error(`cannot connect to ${label}: ${why}`), { cause: sanitizeError(thrown) })
  );
}
