import { randomUUID } from "node:crypto";
import { type Courier, type Delivery, systemQueue } from "../couriers/courier";
import { reasonOf } from "../errors";
import { backoffMs } from "../message/backoff";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Warnings } from "../platform/warnings";
import type { OpenSpan } from "../telemetry/open-telemetry/message-spans";
import { WIRE_VERSION } from "../wire/envelope";
import type { Queues } from "../wire/names";
import { RECEIPT_TYPE, type ReceiptItem } from "../wire/receipt";
import { AckWindow } from "./ack-window";

/** Receipts per message: at most some 100 KiB with long stacks, far below any limit. */
const MAX_ITEMS = 500;
/** Bytes of the payloads and headers that failed receipts return in one message. */
const MAX_ECHO_BYTES = 1024 * 1024;
const RETRY = { initialMs: 200, maxMs: 5000, jitter: "half" } as const;

export interface Owed {
  address: string;
  item: ReceiptItem;
  /** Absent if the delivery was settled before (a handler that ran longer than its timeout). */
  delivery?: Delivery;
  /** Ends with the ack. */
  settling?: OpenSpan | undefined;
  /** It may have left this process. */
  sent?: true;
  /** The broker has refused the message it was in: from now on it goes alone, and not before this monotonic time. */
  alone?: number;
}

interface ReceiptParts {
  courier: Courier;
  queues: Queues;
  logger: Logger;
  warnings: Warnings;
  nodeID: string;
  clock: Clock;
}

/**
 * Sends a consumer's receipts and acks its deliveries, in this order: handler done → receipt confirmed → ack. Many
 * receipts travel in one message: while one is on its way the next ones collect, without a timer. A receipt that the
 * broker did not take is sent again. Until then its delivery stays unacked, so a crash brings it back.
 */
export class ReceiptSender {
  #owed: Owed[] = [];
  #running: Promise<void> | undefined;
  readonly #end = new AbortController();
  readonly #window = new AckWindow();
  /** In this turn of the event loop. */
  readonly #acked: Delivery[] = [];
  /** Ends the pause in which only refused receipts are left. */
  #fresh: AbortController | undefined;

  constructor(
    readonly parts: ReceiptParts,
    /** Of the consumer. */
    readonly group: string
  ) {}

  /** Set by a stop: nothing is sent or acked any more. */
  get stopped(): boolean {
    return this.#end.signal.aborted;
  }

  send(owed: Owed): void {
    this.#owed.push(owed);
    this.#fresh?.abort();
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  /** Failures that were told as counting do not count, nor does what these messages have failed before. */
  giveBack(answers: Owed[]): void {
    for (const { sent, address, item } of answers) if (sent) this.send({ address, item: { ...item, excused: "all" } });
    for (const { sent, item } of answers) if (!sent) item.excused = "all";
  }

  /**
   * For deliveries that get no receipt message: parked, not for this pattern, or with their receipt in the row. What is
   * acked in one turn of the event loop goes together, in one frame where that is possible.
   */
  ack(delivery: Delivery): void {
    if (this.#acked.push(delivery) === 1) process.nextTick(() => this.#ackAll());
  }

  /** Without a receipt. RabbitMQ does not count one that is requeued towards the delivery limit (4.3 on). */
  nack(delivery: Delivery, requeue = true): void {
    delivery.nack(requeue);
    // Its ack does nothing any more; the window waits for it.
    this.#window.settle([delivery]);
  }

  /** Resolves when every receipt is confirmed and every delivery is acked. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
    this.#ackAll();
  }

  /** Gives up on the receipts that are left. Their deliveries stay unacked and are delivered again. */
  stop(): void {
    this.#end.abort();
    for (const { settling } of this.#owed)
      settling?.end(new Error("the node has stopped before the receipt was taken"));
  }

  #ackAll(): void {
    this.#window.settle(this.#acked.splice(0));
  }

  async #run(): Promise<void> {
    await Promise.resolve();
    let failures = 0;
    const { courier, logger, warnings, clock, queues } = this.parts;
    while (this.#owed.length && !this.stopped) {
      const batch = this.#next();
      if (!batch) {
        this.#fresh = new AbortController();
        await clock.sleep(RETRY.maxMs, AbortSignal.any([this.#fresh.signal, this.#end.signal]));
        continue;
      }
      const [{ address }] = batch as [Owed];
      const { outcome, reason } = await courier.publish({
        to: { queue: address },
        messageId: randomUUID(),
        type: RECEIPT_TYPE,
        headers: {},
        body: this.#body(batch)
      });
      if (outcome === "confirmed") {
        failures = 0;
        this.#done(batch);
        continue;
      }
      if (outcome === "refused") {
        this.#setApart(batch, reason);
        continue;
      }
      failures++;
      if (failures === 1 && courier.ready)
        warnings.warn(
          "receipts",
          `${this.group} ${outcome}`,
          `Reliable: receipts of group ${this.group} were ${outcome} (${reason}); they are sent again.`,
          batch.length
        );
      // Consumers answer to the library's two queues only (`Consumer`). One that was deleted is made again.
      if (outcome === "returned")
        await courier
          .declare(systemQueue(address, queues))
          .catch(error => logger.debug(`Reliable: ${address} could not be declared: ${reasonOf(error)}`));
      // Receipts of one strategy must not delay those of the other.
      this.#owed.push(
        ...this.#owed
          .splice(0, this.#owed.length)
          .sort((a, b) => Number(a.address === address) - Number(b.address === address))
      );
      await clock.sleep(backoffMs(RETRY, failures), this.#end.signal);
    }
  }

  /** undefined = all that are left were refused a moment ago. */
  #next(): Owed[] | undefined {
    const now = this.parts.clock.monotonic();
    const first = this.#owed.find(({ alone = now }) => alone <= now);
    if (!first) return undefined;
    if (first.alone !== undefined) return [first];
    return cut(this.#owed.filter(({ address, alone }) => address === first.address && alone === undefined));
  }

  /** The others go on. Its delivery stays unacked, so that it is seen in the queue and comes back after a restart. */
  #setApart(batch: Owed[], reason: string | undefined): void {
    const { clock, warnings } = this.parts;
    const [only] = batch;
    // Of many it is not known which one is refused.
    const again = batch.length > 1 ? 0 : RETRY.maxMs;
    if (only?.alone === undefined || batch.length > 1)
      warnings.error(
        "refused receipts",
        this.group,
        `Reliable: the broker refuses receipts of group ${this.group} (${batch.length}, first of message ${only?.item.id}): ${reason}; each is sent again alone.`
      );
    for (const owed of batch) owed.alone = clock.monotonic() + again;
    this.#owed = [...this.#owed.filter(owed => !batch.includes(owed)), ...batch];
  }

  #body(batch: Owed[]): Buffer {
    for (const owed of batch) owed.sent = true;
    return Buffer.from(
      JSON.stringify({
        v: WIRE_VERSION,
        group: this.group,
        nodeID: this.parts.nodeID,
        items: batch.map(owed => owed.item)
      })
    );
  }

  #done(batch: Owed[]): void {
    const sent = new Set(batch);
    this.#owed = this.#owed.filter(owed => !sent.has(owed));
    this.#window.settle(batch.flatMap(({ delivery }) => delivery ?? []));
    for (const { settling } of batch) settling?.end();
  }
}

/** A batch for one message, limited in number and in bytes of returned payloads; never empty. */
function cut(owed: Owed[]): Owed[] {
  let bytes = 0;
  const end = owed.slice(0, MAX_ITEMS).findIndex(({ item }, i) => {
    const { body, headers } = item.echo ?? {};
    if (body) bytes += body.length + JSON.stringify(headers).length;
    return i > 0 && bytes > MAX_ECHO_BYTES;
  });
  return owed.slice(0, end < 0 ? MAX_ITEMS : end);
}
