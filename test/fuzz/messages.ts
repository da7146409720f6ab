import { CHECK_DELAYS, EVENTS, GROUPS, JOBS, type Places } from "./load";
import type { Random } from "./random";
import type { Forged } from "./stranger";

/** Messages as they should be, from a stranger: each kind, in the place where it belongs. */
export class Messages {
  constructor(
    readonly random: Random,
    readonly places: Places
  ) {}

  any(id: string): Forged {
    return this.random.pick(KINDS)(id, this);
  }

  get group(): string {
    return this.random.pick([...GROUPS.map(({ name }) => name), "nobody", "stranger", "audit:stock.**"]);
  }

  get event(): string {
    return this.random.pick([...EVENTS, "order.cancelled", "strange.thing"]);
  }

  get receipts(): string {
    return this.random.pick([this.places.receipts, this.places.callbackReceipts]);
  }

  plan(more: object = {}): string {
    const { random } = this;
    return JSON.stringify({
      v: 1,
      at: Date.now() - random.int(0, 5000),
      delays: CHECK_DELAYS.slice(0, random.int(1, 3)),
      max: random.int(1, 3),
      backoff: { initialMs: random.int(100, 1000), maxMs: 5000, jitter: random.pick(["none", "half", "full"]) },
      ...(random.once(3) && { resend: "copy" }),
      ...(random.once(5) && { only: [this.group] }),
      ...more
    });
  }

  envelope(more: Record<string, unknown> = {}): Record<string, unknown> {
    const { random } = this;
    return {
      "x-reliable-version": 1,
      "x-reliable-attempt": random.int(1, 3),
      "x-reliable-receipt": this.receipts,
      "x-reliable-producer": random.pick(["shop", "till", "nobody"]),
      ...(random.once(2) && { "x-reliable-echo": this.plan() }),
      ...(random.once(3) && { "x-reliable-meta": '{"user":{"id":7}}', "x-reliable-headers": '{"a":"b"}' }),
      ...(random.once(4) && { "x-reliable-only": [this.group, this.group].join() }),
      ...(random.once(4) && { "x-reliable-level": random.int(1, 9), "x-reliable-tracing": true }),
      ...(random.once(4) && { "x-reliable-request-id": "r", "x-reliable-caller": "v1.a", traceparent: "00-1-2-01" }),
      ...more
    };
  }

  item(id: string, echo: boolean): object {
    const { random } = this;
    const failed = random.once(2);
    const more = failed && {
      retryable: random.once(2),
      rejected: random.once(3),
      error: { name: "Error", message: "no", code: random.pick(["E", 7]), stack: "at x\nat y", data: "{}" }
    };
    const plan = this.plan();
    const whole = failed && {
      headers: this.envelope({ "x-reliable-echo": plan }),
      body: Buffer.from('{"n":1}').toString("base64")
    };
    return {
      id,
      outcome: failed ? "failed" : "handled",
      attempt: random.int(1, 4),
      durationMs: random.int(0, 1000),
      ...(random.once(4) && { runs: random.int(1, 8) }),
      ...more,
      ...(echo && { echo: { event: this.event, producer: random.pick(["shop", "till", "nobody"]), plan, ...whole } })
    };
  }
}

const forged = (
  kind: string,
  routingKey: string,
  type: string,
  id: string,
  headers: object,
  body: unknown
): Forged => ({
  kind,
  done: [],
  exchange: "",
  routingKey,
  properties: { messageId: id, type, contentType: "application/json", deliveryMode: 2, timestamp: 1_795_360_946 },
  headers: { ...headers },
  body: Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body))
});

type Kind = (id: string, make: Messages) => Forged;

const event: Kind = (id, make) => {
  const name = make.event;
  const message = forged("event", name, name, id, make.envelope(), { n: 1, text: "strange" });
  return { ...message, exchange: make.places.exchange };
};

/** To the queue of a group, as when it is sent again; which may be another group's. */
const again: Kind = (id, make) => ({
  ...event(id, make),
  kind: "event, again",
  exchange: "",
  routingKey: make.random.pick(make.places.groups)
});

const receipt: Kind = (id, make) => {
  const { random } = make;
  const echo = !random.once(3);
  const items = Array.from({ length: random.int(1, 5) }, (_, i) => make.item(`${id}.${i}`, echo));
  const body = { v: 1, group: make.group, nodeID: "far", items };
  return forged("receipt", make.receipts, "reliable.receipt", id, {}, body);
};

const withdrawal: Kind = (id, make) => {
  const plan = make.plan({ resend: undefined, intent: "source", source: { action: "books.find", params: { n: 1 } } });
  const body = { v: 1, id: `${id}.0`, echo: { event: make.event, producer: "till", plan } };
  return forged("withdrawal", make.places.callbackReceipts, "reliable.withdrawal", id, {}, body);
};

const check: Kind = (id, make) => {
  const { random, places } = make;
  const source = random.pick(["books.find", "$node.list", "reliable.sweep", "nobody.knows"]);
  const intent = random.once(4) && { "x-reliable-intent": "source" };
  const more = intent && { resend: undefined, intent: "source", source: { action: source, params: {} } };
  const headers = make.envelope({ "x-reliable-echo": make.plan(more || {}), "x-reliable-round": random.int(1, 3) });
  const to = random.pick([places.checks, ...places.delays]);
  return forged("check", to, make.event, id, { ...headers, ...intent }, intent ? Buffer.alloc(0) : { n: 2 });
};

/** Many in one message, some of one id, with bodies and plans of their own or without. */
const checks: Kind = (id, make) => {
  const { random, places } = make;
  const items = Array.from({ length: random.int(1, 5) }, (_, i) => {
    const body = random.once(4) ? Buffer.alloc(0) : Buffer.from(JSON.stringify({ n: i }));
    const item = {
      id: random.once(6) ? `${id}.0` : `${id}.${i}`,
      type: make.event,
      at: Date.now() - random.int(0, 5000),
      ...(random.once(3) && { headers: make.envelope({ "x-reliable-round": random.int(1, 3) }) }),
      ...(random.once(3) && { plan: JSON.parse(make.plan()) as object }),
      bytes: body.length
    };
    return { item, body };
  });
  const line = {
    v: 1,
    plan: JSON.parse(make.plan()) as object,
    headers: make.envelope({ "x-reliable-round": 1 }),
    items: items.map(({ item }) => item)
  };
  const body = Buffer.concat([Buffer.from(`${JSON.stringify(line)}\n`), ...items.map(({ body }) => body)]);
  const headers = { "x-reliable-version": 1, "x-reliable-count": items.length };
  const to = random.pick([places.checks, ...places.delays]);
  const message = forged("checks", to, "reliable.checks", id, headers, body);
  return { ...message, properties: { ...message.properties, contentType: "application/octet-stream" } };
};

/** Of patterns that no event of the load has, but at the queues that are there. */
const announcement: Kind = (id, make) => {
  const { random, places } = make;
  const [group, pattern] = random.pick([
    ["stranger", "strange.thing"],
    ["stranger:strange.**", "strange.**"],
    ["nobody", "strange.thing"],
    ["stock", "strange.thing"],
    ["stock", "order.placed"],
    ["stranger", "order.placed"]
  ]);
  const queue = random.pick([...places.groups, places.jobs, places.checks, "nowhere"]);
  const body = { v: 1, pattern, group, queue, nodeID: "far", service: "stranger" };
  return forged("announcement", places.announcements, "reliable.announcement", id, {}, body);
};

const parked: Kind = (id, make) => {
  const headers = {
    "x-reliable-reason": "a stranger says so",
    "x-reliable-queue": make.random.pick(make.places.groups),
    "x-reliable-node": "far",
    "x-reliable-properties": "{}",
    "x-reliable-headers": make.random.pick(["{}", '{"cut":"', "[]", "null"])
  };
  const message = forged("parked", make.places.parked, "reliable.parked", id, headers, make.random.bytes(20));
  return { ...message, properties: { ...message.properties, contentType: "application/octet-stream" } };
};

/** As RabbitMQ leaves what it gives up, or as it never would. */
const deadLetter: Kind = (id, make) => {
  const { random, places } = make;
  const queue = random.pick([...places.groups, places.jobs, places.receipts, "nowhere"]);
  const reason = random.pick(["rejected", "delivery_limit", "expired", "maxlen", "other"]);
  const death = {
    queue,
    reason,
    count: 1,
    exchange: "",
    "routing-keys": [queue],
    time: { "!": "timestamp", value: 1 }
  };
  const deaths = random.pick<unknown>([[death], [death, death], death, [], "x", [1, null], [{}], [[death]]]);
  const headers = make.envelope({ "x-death": deaths, "x-first-death-queue": queue, "x-delivery-count": 21 });
  return forged("dead letter", places.parked, make.event, id, headers, { n: 3 });
};

const job: Kind = (id, make) => {
  const { random, places } = make;
  const answers = random.once(2) ? make.envelope({ "x-reliable-receipt": make.receipts }) : {};
  return forged("job", places.jobs, JOBS, id, answers, random.once(5) ? random.bytes(50) : { n: 4 });
};

const noise: Kind = (id, { random }) =>
  forged("noise", "", "", id, {}, random.bytes(random.pick([0, 1, 7, 100, 5000])));

const KINDS: readonly Kind[] = [
  ...[event, again, receipt, withdrawal, check, checks, announcement, parked, deadLetter, job, noise]
];
