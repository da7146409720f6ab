import type { Courier } from "../couriers/courier";
import { reasonOf } from "../errors";
import type { Pause } from "../message/records";
import type { Clock, Timer } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { PauseKey, Store } from "../stores/store";
import { pauseMarker } from "../wire/names";
import { tellConsumers } from "./control-messages";
import type { Subscriptions } from "./subscriptions";

export interface PauseMarksParts {
  store: Store;
  courier: Courier;
  subscriptions: Subscriptions;
  namespace: string;
  logger: Logger;
  clock: Clock;
}

const LOOK_EVERY_MS = 60_000;

/** As long as the longest `receiptTimeoutMs` that is of use: what a pause has held back is not silent because of it. */
const KEEP_RESUMED_MS = 24 * 3_600_000;

/**
 * Makes the broker say what the store says of pauses: the store has the operators' word, and consumers look at the marks,
 * since they need no store. Every step may be repeated, by any node:
 *
 *   process dies after the store's write, before the marker    nodes with a store set it within a minute, when they start
 *                                                              and when RabbitMQ is back
 *   … after the marker, before the news                        consumers look within a minute by themselves
 *   … after a resume's write, before the marker is deleted     as above: the row stays until the marker is gone
 *   … after that, before `unmarked`                            it is deleted once more
 *   RabbitMQ loses the marker                                  it is set again as above; consumers take until then
 *   the store loses the pause (a backup is restored)           consumers stay paused; `resume` takes the marker away
 */
export class PauseMarks {
  #running: Promise<void> | undefined;
  #timer: Timer | undefined;
  #unsubscribe: (() => void)[] = [];

  constructor(private readonly parts: PauseMarksParts) {}

  /** Resolves when the broker says what the store says, if both are there: consumers begin after that. */
  async start(): Promise<void> {
    const { courier, store, subscriptions, clock } = this.parts;
    const again = () => void this.agreeAll();
    this.#timer = clock.every(LOOK_EVERY_MS, again);
    this.#unsubscribe = [courier.on("ready", again), store.onReady(() => void subscriptions.refresh().then(again))];
    await this.agreeAll();
  }

  stop(): void {
    this.#timer?.stop();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  markerOf({ group, pattern }: PauseKey): string {
    return pauseMarker(this.parts.namespace, group, pattern);
  }

  /**
   * True = one of the group's consumers at least hears of it. Rejects when RabbitMQ or the store cannot be reached: it is
   * done then.
   */
  async agree(key: PauseKey): Promise<boolean> {
    const { store, courier } = this.parts;
    const marker = this.markerOf(key);
    for (;;) {
      const pause = await store.pauses.find(key);
      if (!pause || pause.resumed) await courier.control.unmark(marker);
      else await courier.control.mark(marker);
      const heard = await this.#tell(key.group);
      if (pause && !pause.resumed) {
        // A resume that came meanwhile may have deleted the marker before it was set.
        const now = await store.pauses.find(key);
        if (now && !now.resumed) return heard;
      } else if (!pause?.resumed || (await store.pauses.unmarked(key, pause.resumed.at))) return heard;
    }
  }

  /** All that the store knows of. Never rejects. */
  agreeAll(): Promise<void> {
    this.#running ??= this.#agreeAll().finally(() => (this.#running = undefined));
    return this.#running;
  }

  async #agreeAll(): Promise<void> {
    const { store, subscriptions, courier, clock, logger } = this.parts;
    const { pauses } = subscriptions;
    if (!pauses.length || !courier.ready || !store.ready) return;
    try {
      for (const pause of pauses) await this.#restore(pause);
      const before = new Date(clock.now() - KEEP_RESUMED_MS);
      if (pauses.some(({ resumed }) => resumed && resumed.at < before)) await store.pauses.prune(before);
    } catch (error) {
      logger.debug(`Reliable: the markers of pauses could not be looked at: ${reasonOf(error)}`);
    }
  }

  /** `pause`: as it was read some seconds ago. */
  async #restore(pause: Pause): Promise<void> {
    const { control } = this.parts.courier;
    const wrong = pause.resumed ? !pause.unmarked : !(await control.marked(this.markerOf(pause)));
    if (wrong) await this.agree(pause);
  }

  /** Lost, it is found out by looking. */
  async #tell(group: string): Promise<boolean> {
    const { courier, logger, clock } = this.parts;
    const { outcome, reason } = await tellConsumers(courier, group, group, clock);
    if (outcome !== "confirmed" && outcome !== "returned")
      logger.debug(`Reliable: the consumers of ${group} were not told to look at its pauses: ${outcome}, ${reason}`);
    return outcome !== "returned";
  }
}
