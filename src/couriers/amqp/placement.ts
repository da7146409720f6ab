import type { ChannelModel } from "amqplib";
import { reasonOf } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Clock, Timer } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import type { BrokerAddress } from "./addresses";
import type { AmqpConnection } from "./connection";
import { NO_QUORUM } from "./declare";
import type { Hosts } from "./hosts";

/** So long after its start, and again and again, a node looks whether it is where it belongs. */
const HOME_MS = 60_000;
/** The longest time, where the host that it belongs to does not take it. */
const MAX_HOME_MS = 16 * HOME_MS;

/**
 * Where no host answers, consumers would lose what they have in hand at each change. So long after one of them they stay
 * where they are; twice as long after the next, until a confirm has come.
 */
const STAY_MS = 60_000;
const MAX_STAY_MS = 16 * STAY_MS;

/**
 * A host that has confirmed a publish within this time is not doubted. Without publishes it is asked this often whether
 * it can take a change.
 */
const CONFIRMED_MS = 10_000;

export interface PlacementParts {
  hosts: Hosts;
  declare: AmqpConnection;
  publish: AmqpConnection;
  consume: AmqpConnection;
  logger: Logger;
  clock: Clock;
  /** When the last confirm came, by the monotonic clock. */
  confirmedAt(): number;
  /** That the cluster behind this connection takes changes. Rejects, and the connection is gone, where it does not. */
  prove(model: ChannelModel): Promise<void>;
  /** Each takes over what its connection is for. */
  carry: Record<"publish" | "consume", (model: ChannelModel) => Promise<void>>;
}

/**
 * At which host of the cluster the connections of this node are. Three rules:
 *
 *   together   a host that gives no confirms, or takes no change, is left by all connections that are there: it may be
 *              cut off from the others or frozen, and consumers have no sign of their own
 *   home       each node has a host of its own (`hosts.ts`). It goes back there when that takes changes again: otherwise
 *              all nodes that a restart has moved would stay at one host for ever. Nothing under way is given up
 *   patience   where no host answers, consumers stay
 */
export class Placement {
  #homeMs = HOME_MS;
  #goingHome: Timer | undefined;
  #probing: Timer | undefined;
  #doubting: Timer | undefined;
  #moving: Promise<void> | undefined;
  #stayMs = STAY_MS;
  #leftAt = Number.NEGATIVE_INFINITY;
  #closed = false;
  #askedAt: number | undefined;

  constructor(private readonly parts: PlacementParts) {}

  start(): void {
    if (!this.parts.hosts.several || this.#closed) return;
    this.#probing = this.parts.clock.every(CONFIRMED_MS, () => void this.#probe());
    this.#homeLater();
  }

  /** For how long no host has answered whether it takes a change. */
  get unansweredMs(): number {
    return this.#askedAt === undefined ? 0 : this.parts.clock.monotonic() - this.#askedAt;
  }

  /** Resolves when a move that is under way has ended, which it does when the connections are closed. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of [this.#goingHome, this.#probing, this.#doubting]) timer?.stop();
    await this.#moving;
  }

  /** The connection for declares is there, and answers. */
  declareUp(): void {
    this.#askedAt = undefined;
  }

  /** The connection for declares was lost at that host. */
  declareLost(reason: string, host: BrokerAddress): void {
    this.#askedAt ??= this.parts.clock.monotonic();
    if (reason.includes(NO_QUORUM)) this.#doubt(host, reason);
  }

  /** The host of this connection gives no confirms. */
  silent(connection: AmqpConnection, reason: string): void {
    const { host = this.parts.hosts.current } = connection;
    this.parts.hosts.leave(host);
    connection.destroy(reason);
    this.#leave(host, reason);
  }

  /** All that are there go to the next host, if their time has come. */
  #leave(host: BrokerAddress, reason: string): void {
    const { hosts, clock, confirmedAt, declare, publish, consume } = this.parts;
    hosts.leave(host);
    if (host === hosts.home) this.#homeMs = Math.min(2 * this.#homeMs, MAX_HOME_MS);
    const there = [declare, publish, consume].filter(connection => connection.host === host);
    if (!there.length) return;
    const now = clock.monotonic();
    const confirmed = confirmedAt() > this.#leftAt;
    if (confirmed) this.#stayMs = STAY_MS;
    else if (now < this.#leftAt + this.#stayMs / 2) return;
    this.#leftAt = now;
    this.#stayMs = Math.min(2 * this.#stayMs, MAX_STAY_MS);
    for (const connection of there) connection.destroy(reason);
  }

  /** One that gives confirms is of use. If it was a moment ago, it is asked again in a moment. */
  #doubt(host: BrokerAddress, reason: string): void {
    const { clock, confirmedAt } = this.parts;
    const now = clock.monotonic();
    this.#doubting?.stop();
    if (now - confirmedAt() > CONFIRMED_MS) {
      this.#leave(host, reason);
      return;
    }
    this.#doubting = clock.after(CONFIRMED_MS, () => {
      if (confirmedAt() <= now) this.#leave(host, reason);
    });
  }

  async #probe(): Promise<void> {
    const { declare, prove, clock, confirmedAt } = this.parts;
    const { model } = declare;
    if (!model || clock.monotonic() - confirmedAt() <= CONFIRMED_MS) return;
    this.#askedAt ??= clock.monotonic();
    // What is lost by it is told by `declareLost`; any other answer is one.
    await prove(model).catch(() => undefined);
    if (declare.model === model) this.#askedAt = undefined;
  }

  #homeLater(): void {
    const ms = backoffMs({ initialMs: this.#homeMs, maxMs: MAX_HOME_MS, jitter: "half" }, 1);
    this.#goingHome = this.parts.clock.after(ms, () => {
      this.#moving = this.#goHome().finally(() => {
        this.#moving = undefined;
        if (!this.#closed) this.#homeLater();
      });
    });
  }

  async #goHome(): Promise<void> {
    const { hosts, declare, publish, consume, prove, carry, logger } = this.parts;
    const { home } = hosts;
    const nothing = async () => undefined;
    const moves = [
      // The first one tries it: where it is not of use the others stay.
      () => declare.move(home, prove, nothing),
      () => publish.move(home, nothing, carry.publish),
      () => consume.move(home, nothing, carry.consume)
    ];
    try {
      for (const [i, connection] of [declare, publish, consume].entries()) {
        if (this.#closed || connection.host === undefined) return;
        if (connection.host !== home) await moves[i]?.();
        if (connection.host !== home) return;
        hosts.goHome();
      }
      this.#homeMs = HOME_MS;
    } catch (thrown) {
      this.#homeMs = Math.min(2 * this.#homeMs, MAX_HOME_MS);
      logger.debug(`RabbitMQ at ${home.label} does not take this node yet: ${reasonOf(thrown)}`);
      // Others of its connections may be there.
      if (reasonOf(thrown).includes(NO_QUORUM)) this.#doubt(home, reasonOf(thrown));
    }
  }
}
