import type { Courier } from "../couriers/courier";
import { ReliableRetryableError } from "../errors";
import { tellSweepers } from "../outbound/control-messages";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Events } from "../telemetry/events";
import type { Look } from "../wire/control";

export interface AskSweepersParts {
  courier: Courier;
  events: Events;
  logger: Logger;
  clock: Clock;
}

/**
 * On an observer, in the place of what works: the nodes that sweep are told what it has begun, by RabbitMQ, since it may
 * have no transporter. Lost, or where they are of a version that does not listen, what is due waits for the next sweep,
 * and a bulk act for the look that a sweeping node makes every 5 minutes.
 */
export class AskSweepers {
  readonly #deaf: () => void;

  constructor(private readonly parts: AskSweepersParts) {
    this.#deaf = parts.events.on("acted", act => void (act === "retried" && this.#tell("due")));
  }

  stop(): void {
    this.#deaf();
  }

  /** There is a bulk act to be worked at. */
  async wake(): Promise<void> {
    await this.#tell("bulks");
  }

  /** A pass by hand: it is made there, so its counts are not known here. Rejects with RELIABLE_UNAVAILABLE. */
  async once(): Promise<{ asked: number }> {
    if ((await this.#tell("due")) === "confirmed") return { asked: 1 };
    throw new ReliableRetryableError(
      "RELIABLE_UNAVAILABLE",
      "This node is an observer and does not sweep, and no node that does could be told to."
    );
  }

  async #tell(look: Look) {
    const { courier, logger, clock } = this.parts;
    const { outcome, reason } = await tellSweepers(courier, look, clock);
    if (outcome !== "confirmed")
      logger.debug(`Reliable: no node that sweeps was told to look for ${look}: ${outcome}, ${reason}`);
    return outcome;
  }
}
