import { type ChannelModel, type ConfirmChannel, connect } from "amqplib";
import { unpacked } from "../../src/couriers/amqp/headers";
import { LIVING, STRANGE } from "./load";
import type { Random } from "./random";

/** A message as a stranger writes it. */
export interface Forged {
  kind: string;
  /** What was done to it, for the report. */
  done: string[];
  exchange: string;
  routingKey: string;
  /** All but headers; `messageId` is the stranger's unless a mutation took it. */
  properties: Record<string, unknown>;
  headers: Record<string, unknown>;
  body: Buffer;
}

/** Marks every message of the stranger, first of its headers, so that it is found where headers are cut. */
export const MARK = "x-fuzz";

/** Headers above this and our own beside them: the client library would write a frame that RabbitMQ refuses. */
const MAX_HEADER_BYTES = 100_000;

/** Writes to the vhost with the rights of every user of it. */
export class Stranger {
  #model: Promise<ChannelModel> | undefined;
  #channel: Promise<ConfirmChannel> | undefined;
  sent = 0;
  /** What his own client library could not write. */
  unwritable = 0;
  /** Connections that RabbitMQ has closed for what he wrote. */
  closed = 0;

  constructor(readonly url: string) {}

  /** Resolves when the broker has it: false if it never will. */
  async send({ exchange, routingKey, properties, headers, body }: Forged): Promise<boolean> {
    if (Buffer.byteLength(JSON.stringify(headers)) > MAX_HEADER_BYTES) return false;
    const channel = await this.#open();
    return new Promise<boolean>(resolve => {
      channel.once("close", () => resolve(false));
      try {
        channel.publish(exchange, routingKey, body, { ...properties, headers }, error => {
          if (!error) this.sent++;
          resolve(!error);
        });
      } catch {
        // It counts this one as sent, and would take the next confirm for its own.
        this.unwritable++;
        this.#channel = undefined;
        void channel.close().catch(() => undefined);
      }
    });
  }

  async close(): Promise<void> {
    await (await this.#model)?.close().catch(() => undefined);
  }

  #open(): Promise<ConfirmChannel> {
    return (this.#channel ??= this.#newChannel());
  }

  async #connect(): Promise<ChannelModel> {
    const model = await connect(this.url, { noDelay: true });
    model.on("error", () => undefined);
    model.once("close", () => {
      this.closed++;
      this.#model = undefined;
      this.#channel = undefined;
    });
    return model;
  }

  async #newChannel(): Promise<ConfirmChannel> {
    this.#model ??= this.#connect();
    const channel = await (await this.#model).createConfirmChannel();
    channel.setMaxListeners(0);
    channel.on("error", () => {
      this.closed++;
      this.#channel = undefined;
    });
    return channel;
  }
}

/** What the load itself sends, of every kind: at most so many of each, the later ones by chance. */
const KEPT = 40;

/** Copies of all that is published in a vhost, by RabbitMQ's tracer (`rabbitmqctl trace_on`). */
export class Samples {
  readonly #byKind = new Map<string, Forged[]>();
  readonly #seen = new Map<string, number>();
  #model: ChannelModel | undefined;

  constructor(readonly random: Random) {}

  async start(url: string): Promise<void> {
    this.#model = await connect(url, { noDelay: true });
    this.#model.on("error", () => undefined);
    const channel = await this.#model.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    await channel.bindQueue(queue, "amq.rabbitmq.trace", "publish.#");
    await channel.consume(
      queue,
      message => {
        if (message) this.#keep(message.properties.headers as Traced, message.content);
      },
      { noAck: true }
    );
  }

  get kinds(): string[] {
    return [...this.#byKind.keys()].sort();
  }

  of(kind: string): readonly Forged[] {
    return this.#byKind.get(kind) ?? [];
  }

  async stop(): Promise<void> {
    await this.#model?.close().catch(() => undefined);
    this.#model = undefined;
  }

  #keep(traced: Traced, body: Buffer): void {
    const { headers: sent = {}, ...properties } = traced.properties;
    const headers = unpacked(sent);
    if (MARK in headers) return;
    const [routingKey = ""] = traced.routing_keys;
    const kind = kindOf(routingKey, headers, properties);
    const seen = (this.#seen.get(kind) ?? 0) + 1;
    this.#seen.set(kind, seen);
    const samples = this.#byKind.get(kind) ?? [];
    this.#byKind.set(kind, samples);
    const at = samples.length < KEPT ? samples.length : this.random.int(0, seen - 1);
    if (at >= KEPT) return;
    const camel = Object.entries(properties).map(([name, value]) => [
      name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
      value
    ]);
    samples[at] = {
      kind,
      done: ["captured"],
      exchange: traced.exchange_name,
      routingKey,
      properties: Object.fromEntries(camel),
      headers,
      body
    };
  }
}

interface Traced {
  exchange_name: string;
  routing_keys: string[];
  properties: Record<string, unknown> & { headers?: Record<string, unknown> };
}

function kindOf(key: string, headers: Record<string, unknown>, { type }: Record<string, unknown>): string {
  if (type === "reliable.withdrawal") return "withdrawal";
  if (key.endsWith(".receipts.callback")) return "receipt, callback";
  if (key.endsWith(".receipts.outbox")) return "receipt, outbox";
  if (key.endsWith(".announcements")) return "announcement";
  if (type === "reliable.checks") return "checks";
  if (key.includes(".checks")) return headers["x-reliable-intent"] === undefined ? "check" : "check, intent";
  if (key.endsWith(".parked")) return "parked";
  return key.includes(".on.") ? "event, again" : key.startsWith("jobs.") ? "job" : "event";
}

/** The same message under ids of the stranger. */
export function renamed(forged: Forged, id: string): Forged {
  const rename = (text: string) => text.replaceAll(new RegExp(`${LIVING}(\\d+)`, "g"), (_, n) => `${id}.${n}`);
  const of = (fields: Record<string, unknown>) =>
    Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [name, typeof value === "string" ? rename(value) : value])
    );
  return {
    ...forged,
    done: [...forged.done],
    properties: { ...of(forged.properties), messageId: id },
    headers: of(forged.headers),
    body: Buffer.from(rename(forged.body.toString("latin1")), "latin1")
  };
}

export const idOf = (n: number): string => `${STRANGE}${n}`;
