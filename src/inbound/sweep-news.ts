import type { Courier, Heard } from "../couriers/courier";
import type { Clock, Timer } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Events } from "../telemetry/events";
import { CONTROL_TYPE, type Look, parseSweepNews } from "../wire/control";
import { Unreadable } from "../wire/json";
import { SWEEPERS_KEY } from "../wire/names";
import type { Signatures } from "./signatures";

/** Whoever may write to the broker can send news without end. */
const MIN_BETWEEN_MS = 250;

export interface SweepNewsParts {
  courier: Courier;
  signatures: Signatures | undefined;
  events: Events;
  logger: Logger;
  clock: Clock;
}

/**
 * What nodes begin that do none of the cluster's work, heard by those that sweep. It says no more than that there is
 * something, so one that is forged, late or there twice does no more than a look, and one that is lost waits for the
 * next look.
 */
export class SweepNews {
  readonly #waiting = new Set<Look>();
  #timer: Timer | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(private readonly parts: SweepNewsParts) {}

  start(): void {
    this.#unsubscribe = this.parts.courier.control.listen(SWEEPERS_KEY, heard => {
      // It begins to hear: what was told before that is not known. What is due is looked for without being told.
      const look = heard ? this.#lookIn(heard) : "bulks";
      if (look) this.#tell(look);
    });
  }

  stop(): void {
    this.#unsubscribe?.();
    this.#timer?.stop();
  }

  #tell(look: Look): void {
    this.#waiting.add(look);
    if (!this.#timer) this.#tellAll();
  }

  #tellAll(): void {
    for (const look of this.#waiting) this.parts.events.emit("toDo", look);
    this.#waiting.clear();
    this.#timer = this.parts.clock.after(MIN_BETWEEN_MS, () => {
      this.#timer = undefined;
      if (this.#waiting.size) this.#tellAll();
    });
  }

  #lookIn(heard: Heard): Look | undefined {
    if (heard.type !== CONTROL_TYPE) return undefined;
    try {
      this.parts.signatures?.check(heard, "control");
      return parseSweepNews(heard.body).look;
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      this.parts.logger.debug(`Reliable: a control message is left aside: ${error.message}`);
      return undefined;
    }
  }
}
