import { randomUUID } from "node:crypto";
import { notSent, type Publication, type PublishResult } from "../couriers/courier";
import { CHECKS_TYPE, encodeChecks, type OutgoingCheck } from "../wire/checks";
import { HEADER, WIRE_VERSION } from "../wire/envelope";

/** With 0.6 KB each, 200 checks are about this: what a quorum queue takes well, and what one command of a store does. */
const MAX_BATCH_BYTES = 128 * 1024;

/** A larger check goes alone: it would take the place of many, and costs more than its message's own steps. */
const MAX_TOGETHER_BYTES = 2 * 1024;

/** Of the first line, for each check beside its headers: names of fields, id, event, instant. */
const ITEM_BYTES = 160;

/** The second batch goes while the first is on its way, if it is full. */
const MAX_UNDER_WAY = 2;

/** Twenty times what is on its way at most: callers who wait, or whose time is up. */
const MAX_WAITING = 20_000;
const MAX_WAITING_BYTES = 64 * 1024 * 1024;

/** A check, and who waits for its outcome: exactly one of both is called, once. */
export interface WaitingCheck extends OutgoingCheck {
  producer: string;
  /** The whole plan, for a check that goes alone. */
  echo: string;
  bytes: number;
  answered(result: PublishResult): void;
  failed(error: Error): void;
}

export interface CheckBatchesParts {
  /** To the delay queue. */
  publish(delayMs: number, publication: Omit<Publication, "to">): Promise<PublishResult>;
  /** 1 = each check is a message of its own. */
  maxItems: number;
}

/** Checks of one delay, on their way into one queue. */
interface Line {
  delayMs: number;
  waiting: WaitingCheck[];
  bytes: number;
  underWay: number;
  /** A batch will be cut at the end of this turn of the event loop. */
  starting: boolean;
}

/**
 * Group commit of checks: while a message with checks is on its way to its delay queue, the next ones collect. One that
 * comes alone goes at once, as a plain check; nothing waits for a timer. The outcome of a message is that of each check
 * in it, and nobody is told before:
 *
 *   process dies before it is sent     no emit of these has resolved
 *   … sent, its confirm outstanding    the same; if it has arrived, the checks come and have their messages sent
 *   … confirmed, callers not told      the same
 *   its confirm is lost                all of its emits are told that it is not known (up to `maxItems` at once)
 *   RabbitMQ refuses it                each of its checks goes alone, and has an outcome of its own
 */
export class CheckBatches {
  readonly #lines = new Map<number, Line>();
  #waiting = 0;
  #waitingBytes = 0;

  constructor(readonly parts: CheckBatchesParts) {}

  add(delayMs: number, check: WaitingCheck): void {
    const { body, headers, echo, plan } = check;
    check.bytes = body.length + ITEM_BYTES + headerBytes(headers) + echo.length - plan.text.length;
    if (check.bytes > MAX_TOGETHER_BYTES || this.parts.maxItems === 1) {
      this.#sendAlone(delayMs, check);
      return;
    }
    if (this.#waiting >= MAX_WAITING || this.#waitingBytes + check.bytes > MAX_WAITING_BYTES) {
      check.answered(notSent("too many checks are waiting"));
      return;
    }
    let line = this.#lines.get(delayMs);
    if (!line) this.#lines.set(delayMs, (line = { delayMs, waiting: [], bytes: 0, underWay: 0, starting: false }));
    line.waiting.push(check);
    line.bytes += check.bytes;
    this.#waiting++;
    this.#waitingBytes += check.bytes;
    if (line.starting || !this.#maySend(line)) return;
    line.starting = true;
    // Lets in what else this turn emits.
    queueMicrotask(() => {
      line.starting = false;
      this.#advance(line);
    });
  }

  #maySend({ underWay, waiting, bytes }: Line): boolean {
    if (underWay === 0) return true;
    return underWay < MAX_UNDER_WAY && (waiting.length >= this.parts.maxItems || bytes >= MAX_BATCH_BYTES);
  }

  #advance(line: Line): void {
    while (line.waiting.length && this.#maySend(line)) this.#send(line, this.#cut(line));
    if (!line.waiting.length && !line.underWay) this.#lines.delete(line.delayMs);
  }

  #cut(line: Line): WaitingCheck[] {
    const { maxItems } = this.parts;
    let bytes = 0;
    let count = 0;
    for (const check of line.waiting) {
      if (count === maxItems || (count > 0 && bytes + check.bytes > MAX_BATCH_BYTES)) break;
      bytes += check.bytes;
      count++;
    }
    const batch = line.waiting.splice(0, count);
    line.bytes -= bytes;
    this.#waiting -= count;
    this.#waitingBytes -= bytes;
    return batch;
  }

  #send(line: Line, batch: WaitingCheck[]): void {
    const { delayMs } = line;
    line.underWay++;
    const next = () => {
      line.underWay--;
      this.#advance(line);
    };
    const [only] = batch;
    if (batch.length === 1 && only) {
      this.#publishAlone(delayMs, only).then(next, next);
      return;
    }
    this.parts.publish(delayMs, messageOf(batch)).then(
      result => {
        // It may be for one of them, or for what they are together: that one must not be the others' outcome.
        if (result.outcome === "refused") for (const check of batch) this.#sendAlone(delayMs, check);
        else for (const check of batch) check.answered(result);
        next();
      },
      (error: Error) => {
        for (const check of batch) check.failed(error);
        next();
      }
    );
  }

  #sendAlone(delayMs: number, check: WaitingCheck): void {
    void this.#publishAlone(delayMs, check);
  }

  #publishAlone(delayMs: number, check: WaitingCheck): Promise<void> {
    return this.parts.publish(delayMs, aloneOf(check)).then(
      result => check.answered(result),
      (error: Error) => check.failed(error)
    );
  }
}

function aloneOf({ id, event, body, headers, producer, echo }: WaitingCheck): Omit<Publication, "to"> {
  return { messageId: id, type: event, body, headers: { ...headers, [HEADER.echo]: echo }, appId: producer };
}

function messageOf(batch: WaitingCheck[]): Omit<Publication, "to"> {
  return {
    messageId: randomUUID(),
    type: CHECKS_TYPE,
    body: encodeChecks(batch),
    headers: { [HEADER.version]: WIRE_VERSION, [HEADER.count]: batch.length },
    contentType: "application/octet-stream"
  };
}

/** Those that most checks have are the same for all, and stand there once. */
const COMMON = 6;

function headerBytes(headers: Record<string, unknown>): number {
  let bytes = 0;
  let count = 0;
  for (const name in headers) {
    if (++count <= COMMON) continue;
    const value = headers[name];
    bytes += name.length + (typeof value === "string" ? value.length : 8);
  }
  return bytes;
}
