import { randomUUID } from "node:crypto";
import type { Publication } from "../couriers/courier";
import { backoffMs } from "../message/backoff";
import type { HistoryRecord } from "../message/history";
import type { Timer } from "../platform/clock";
import { ANNOUNCEMENT_TYPE, type Announcement } from "../wire/announcement";
import { type Counts, countsOf } from "../wire/counts";
import { WIRE_VERSION } from "../wire/envelope";
import { type ConsumerParts, type ConsumerSpec, RETRY } from "./consumer-parts";

/**
 * Announcements are repeated, so that `seenAt` separates living groups from retired ones and a restored store learns of
 * them.
 */
const EVERY_MS = 10 * 60_000;

/** Tells the nodes with a store which group has which queue. */
export class Announcer {
  readonly #end = new AbortController();
  readonly #announcement: Announcement;
  #timer: Timer | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(
    { pattern, group, queue, service }: ConsumerSpec,
    private readonly parts: ConsumerParts
  ) {
    this.#announcement = { v: WIRE_VERSION, pattern, group, queue, nodeID: parts.nodeID, service };
  }

  /** Resolves when the announcement is confirmed or `stop` was called. It may take long while the broker is away. */
  async announce(): Promise<void> {
    const { courier, clock } = this.parts;
    for (let tries = 1; !this.#end.signal.aborted; tries++) {
      if (await this.#send()) return;
      const ready = new AbortController();
      const wake = () => ready.abort();
      const unsubscribe = courier.on("ready", wake);
      this.#end.signal.addEventListener("abort", wake);
      await clock.sleep(backoffMs(RETRY, tries), ready.signal);
      this.#end.signal.removeEventListener("abort", wake);
      unsubscribe();
    }
  }

  /** Repeats the announcement from now on. One that fails is not retried, since the next one is near. */
  repeat(): void {
    const { courier, clock } = this.parts;
    const again = () => void this.#send();
    this.#unsubscribe = courier.on("ready", again);
    this.#timer = clock.every(EVERY_MS, again);
  }

  stop(): void {
    this.#end.abort();
    this.#timer?.stop();
    this.#unsubscribe?.();
  }

  /** What this node has counted in a minute, beside the announcement. False = the broker has not confirmed it. */
  tellHistory(record: HistoryRecord): Promise<boolean> {
    return this.#send({ counts: countsOf(record) });
  }

  async #send(more: { counts?: Counts } = {}): Promise<boolean> {
    const { courier, queues } = this.parts;
    const publication: Publication = {
      to: { queue: queues.announcements },
      messageId: randomUUID(),
      type: ANNOUNCEMENT_TYPE,
      headers: {},
      body: Buffer.from(JSON.stringify({ ...this.#announcement, ...more }))
    };
    return (await courier.publish(publication)).outcome === "confirmed";
  }
}
