import { expect, it } from "vitest";
import { isParkedMessage } from "../../src/inbound/parked-messages";
import { parseAnnouncement } from "../../src/wire/announcement";
import { messageOfEcho, parseCheck } from "../../src/wire/check";
import { parseChecks } from "../../src/wire/checks";
import { parseControl, parseSweepNews } from "../../src/wire/control";
import { parseEnvelope } from "../../src/wire/envelope";
import { Unreadable } from "../../src/wire/json";
import { parseReceipts, parseWithdrawal } from "../../src/wire/receipt";
import { faults, names, type SchemaName } from "../support/schemas";

type Doc = Record<string, unknown>;

const plan = {
  v: 1,
  at: 1_700_000_000_000,
  delays: [1000, 2000],
  max: 2,
  backoff: { initialMs: 500, maxMs: 1000, jitter: "none" },
  unroutableMs: 60_000,
  only: ["mail"]
};
const withSource = { ...plan, source: { action: "orders.find", params: { id: 7 } }, intent: "source" };
const headers = {
  ...{
    "x-reliable-version": 1,
    "x-reliable-strategy": "callback",
    "x-reliable-attempt": 1,
    "x-reliable-producer": "orders",
    "x-reliable-receipt": "receipts",
    "x-reliable-groups": "mail,stock"
  },
  ...{
    "x-reliable-request-id": "r",
    "x-reliable-parent-id": "p",
    "x-reliable-level": 1,
    "x-reliable-tracing": true,
    "x-reliable-caller": "api",
    "x-reliable-node": "node-1",
    "x-reliable-only": "mail",
    "x-reliable-encoded": true,
    "x-reliable-replay": "bulk-1",
    "x-reliable-original": "m-0",
    "x-reliable-again": true
  },
  ...{
    "x-reliable-meta": '{"user":1}',
    "x-reliable-headers": '{"tenant":"a"}',
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    tracestate: "vendor=1",
    "x-reliable-echo": JSON.stringify(plan)
  }
};
const envelope = { messageId: "id-1", type: "order.created", headers, body: { order: 1 } };
const { "x-reliable-receipt": _receipt, "x-reliable-echo": _echo, ...unanswered } = headers;
const echo = {
  event: "order.created",
  producer: "orders",
  plan: JSON.stringify(plan),
  headers,
  body: "eyJvcmRlciI6MX0="
};
const item = {
  id: "id-1",
  outcome: "failed",
  attempt: 1,
  durationMs: 2.5,
  runs: 8,
  retryable: true,
  rejected: false,
  error: { name: "Error", message: "no", code: 1, type: "T", stack: "at", data: "{}" }
};
const { headers: _headers, body: _body, ...short } = echo;

const good: Record<SchemaName, Doc[]> = {
  envelope: [envelope, { ...envelope, body: null }],
  job: [{ ...envelope, headers: unanswered }],
  check: [
    { ...envelope, headers: { ...headers, "x-reliable-round": 1 } },
    {
      ...envelope,
      headers: { ...headers, "x-reliable-round": 2, "x-reliable-echo": JSON.stringify({ ...plan, resend: "copy" }) }
    },
    {
      messageId: "id-1",
      type: "order.created",
      headers: {
        ...headers,
        "x-reliable-round": 1,
        "x-reliable-intent": "source",
        "x-reliable-echo": JSON.stringify(withSource)
      }
    }
  ],
  checks: [
    {
      ...{ v: 1, plan: { v: 1, delays: [1000, 2000], max: 2, backoff: plan.backoff } },
      headers: { "x-reliable-version": 1, "x-reliable-attempt": 1, "x-reliable-round": 1 },
      items: [
        { id: "id-1", type: "order.created", at: 1_700_000_000_000, bytes: 11 },
        {
          ...{ id: "id-2", type: "order.paid", at: 1_700_000_000_000.5, bytes: 0 },
          ...{ headers: { "x-reliable-meta": "{}" }, plan: { source: withSource.source } }
        }
      ]
    }
  ],
  plan: [
    plan,
    withSource,
    { ...plan, requestID: "r-1" },
    { ...plan, resend: "copy" },
    { ...plan, keys: ["order=42", "customer=c=7"] }
  ],
  receipt: [
    {
      v: 1,
      group: "mail",
      nodeID: "n",
      items: [
        item,
        { ...item, echo },
        { id: "id-2", outcome: "handled", attempt: 2, durationMs: 0, runs: 2, echo: short }
      ]
    }
  ],
  announcement: [
    { v: 1, pattern: "order.created", group: "mail", queue: "q", nodeID: "n", service: "s" },
    { v: 1, pattern: "order.**", group: "mail:order.**", queue: "q", nodeID: "n", service: "s" },
    {
      ...{ v: 1, pattern: "order.created", group: "mail", queue: "q", nodeID: "n", service: "s" },
      counts: {
        minute: 1_795_360_920_000,
        start: "s",
        rows: [
          { event: "order.created", emitted: 1, confirmed: 1 },
          { event: "order.created", group: "mail", handled: 2, failed: 1, duplicates: 0, dead: 1, times: [0, 2, 1] }
        ]
      }
    }
  ],
  withdrawal: [{ v: 1, id: "id-1", echo: short }],
  control: [{ v: 1, group: "mail" }],
  parked: [
    {
      type: "reliable.parked",
      messageId: "m",
      headers: {
        "x-reliable-reason": "r",
        "x-reliable-queue": "q",
        "x-reliable-node": "n",
        "x-reliable-properties": "{}",
        "x-reliable-headers": "{}"
      }
    },
    {
      type: "reliable.parked",
      messageId: "m",
      headers: {
        "x-reliable-reason": "r",
        "x-reliable-queue": "q",
        "x-reliable-node": "n",
        "x-reliable-properties": "{}",
        "x-reliable-headers": "{}",
        "x-reliable-bytes": 16_777_216,
        "x-reliable-sha256": "0123456789abcdef".repeat(4)
      }
    }
  ]
};

const anyone = () => ["mail"];
const bytes = (value: unknown) => Buffer.from(value === undefined ? "" : JSON.stringify(value));
const wire = (doc: Doc) => ({
  messageId: doc["messageId"] as string,
  type: doc["type"] as string,
  headers: doc["headers"] as Doc,
  body: bytes(doc["body"])
});

/** Throws, or returns false, for what our readers refuse. */
const read: Record<SchemaName, (doc: Doc) => unknown> = {
  envelope: doc => parseEnvelope(wire(doc)),
  job: doc =>
    !("x-reliable-receipt" in (doc["headers"] as Doc)) &&
    !("x-reliable-echo" in (doc["headers"] as Doc)) &&
    parseEnvelope(wire({ ...doc, headers: { ...(doc["headers"] as Doc), "x-reliable-receipt": "r" } })),
  check: doc => parseCheck(wire(doc), anyone, new Date()),
  checks: doc => {
    const items = (doc?.["items"] ?? []) as { bytes?: number }[];
    const bodies = Array.isArray(items) ? items.map(item => Number(item?.bytes)) : [];
    const total = bodies.reduce((sum, length) => sum + (length > 0 && length < 1000 ? Math.floor(length) : 0), 0);
    const read = parseChecks({
      ...{ messageId: "batch", type: "reliable.checks" },
      headers: { "x-reliable-version": 1, "x-reliable-count": items.length },
      body: Buffer.concat([bytes(doc), Buffer.from("\n"), Buffer.alloc(total)])
    });
    return read.every(({ fault }) => fault === undefined);
  },
  plan: doc =>
    parseCheck(
      wire({ ...envelope, headers: { ...headers, "x-reliable-round": 1, "x-reliable-echo": JSON.stringify(doc) } }),
      anyone,
      new Date()
    ),
  receipt: doc => {
    const { items, bad } = parseReceipts(bytes(doc));
    for (const { id, echo } of items) if (echo) messageOfEcho(id, echo, anyone, new Date());
    return !bad.length;
  },
  announcement: doc => parseAnnouncement(bytes(doc), "shop.reliable"),
  withdrawal: doc => {
    const { id, echo } = parseWithdrawal(bytes(doc));
    return messageOfEcho(id, echo, anyone, new Date());
  },
  control: doc => (doc?.["look"] === undefined ? parseControl(bytes(doc)) : parseSweepNews(bytes(doc))),
  parked: doc => isParkedMessage(doc as never)
};

function accepted(name: SchemaName, doc: Doc): boolean {
  try {
    return read[name](doc) !== false;
  } catch (error) {
    if (error instanceof Unreadable) return false;
    throw error;
  }
}

const WRONG = [
  null,
  true,
  0,
  -1,
  1.5,
  2,
  5e15,
  "",
  "x",
  "1",
  "*",
  "a\nb",
  "a\u009bb",
  "$a",
  "(*",
  "a:b",
  "x".repeat(300),
  [],
  [null],
  {},
  { a: null }
];
/** Text that carries JSON: changed inside as well. */
const CARRIERS = ["x-reliable-echo", "x-reliable-meta", "x-reliable-headers", "plan"];

/**
 * What no schema can say: that a wildcard group is named after its pattern, what a regular expression can be made of,
 * and what is in base64.
 */
const BEYOND: Partial<Record<SchemaName, string[]>> = {
  announcement: ['/pattern = "*"', '/pattern = "(*"', '/group = "a:b"'],
  receipt: [`/items/1/echo/body = ${JSON.stringify("x".repeat(300)).slice(0, 40)}`]
};
/** Nor that numbers increase. */
const NOT_INCREASING = /\/delays\/1 = (?:1\.5|2)$/;

interface Mutant {
  what: string;
  doc: unknown;
  /** Only something unknown was added. */
  extra?: boolean;
}

/** Every place of a document: missing, of every wrong kind, or with something unknown beside it. */
function* mutants(value: unknown, at = ""): Generator<Mutant> {
  if (typeof value !== "object" || value === null) return;
  const put = (key: string, changed: unknown) =>
    Array.isArray(value)
      ? value.map((old: unknown, i) => (String(i) === key ? changed : old))
      : { ...value, [key]: changed };
  if (!Array.isArray(value))
    yield { what: `${at} with something unknown`, doc: { ...value, "x-unknown": { deep: [1] } }, extra: true };
  for (const [key, inner] of Object.entries(value as Doc)) {
    const where = `${at}/${key}`;
    if (!Array.isArray(value))
      yield {
        what: `${where} missing`,
        doc: Object.fromEntries(Object.entries(value).filter(([name]) => name !== key))
      };
    for (const wrong of WRONG) yield { what: `${where} = ${JSON.stringify(wrong).slice(0, 40)}`, doc: put(key, wrong) };
    const carrier = CARRIERS.includes(key) && typeof inner === "string";
    for (const { what, doc, extra } of mutants(carrier ? (JSON.parse(inner) as unknown) : inner, where))
      yield { what, doc: put(key, carrier ? JSON.stringify(doc) : doc), extra };
  }
}

/** Whether AMQP itself can carry it. */
function carried({ headers, messageId = "", type = "" }: Doc): boolean {
  return (
    typeof headers === "object" &&
    headers !== null &&
    !Array.isArray(headers) &&
    typeof messageId === "string" &&
    typeof type === "string"
  );
}

it("there is an example of every schema", () => {
  expect(names.toSorted()).toEqual(Object.keys(good).toSorted());
});

it.each(names)("%s: the schema and our reader say the same of every example and of every change to it", name => {
  const differ: string[] = [];
  let refused = 0;
  let extras = 0;
  for (const doc of good[name]) {
    expect(faults(name, doc)).toEqual([]);
    expect(accepted(name, doc)).toBe(true);
    for (const { what, doc: mutant, extra } of mutants(doc)) {
      if ("headers" in doc && !carried(mutant as Doc)) continue;
      const bySchema = faults(name, mutant).length === 0;
      const byReader = accepted(name, mutant as Doc);
      if (!bySchema) refused++;
      if (extra) extras++;
      if (bySchema && !byReader && (BEYOND[name]?.includes(what) || NOT_INCREASING.test(what))) continue;
      if (bySchema !== byReader)
        differ.push(`${what}: the schema ${bySchema ? "takes" : "refuses"} it, the reader does not`);
      else if (extra && !bySchema) differ.push(`${what}: refused`);
    }
  }
  expect(differ).toEqual([]);
  expect(refused).toBeGreaterThan(20);
  expect(extras).toBeGreaterThan(0);
});

it("a failed receipt must bring the message back, a handled one need not: by the schema and by our reader", () => {
  const receipt = (more: object) => ({
    v: 1,
    group: "mail",
    nodeID: "n",
    items: [{ id: "id-1", outcome: "failed", attempt: 1, durationMs: 1, echo: short, ...more }]
  });
  expect(faults("receipt", receipt({}))).not.toEqual([]);
  expect(parseReceipts(bytes(receipt({})))).toMatchObject({
    items: [],
    bad: [expect.stringMatching(/bad echo.*must bring back headers and body/)]
  });
  for (const more of [{ outcome: "handled" }, { echo }, { echo: undefined }]) {
    const given = JSON.parse(JSON.stringify(receipt(more))) as Doc;
    expect(faults("receipt", given)).toEqual([]);
    expect(accepted("receipt", given)).toBe(true);
  }
});

it.each([
  ["its own", "shop.reliable.checks"],
  ["its own, of a delay", "shop.reliable.checks.delay.1000"],
  ["one nobody has yet", "shop.reliable.else"]
])("a group cannot announce a queue of the system: %s", (_, queue) => {
  const announcement = { v: 1, pattern: "order.created", group: "mail", queue, nodeID: "n", service: "s" };
  expect(() => parseAnnouncement(bytes(announcement), "shop.reliable")).toThrow(Unreadable);
  for (const good of ["shop.reliable.on.mail/order.created", "mail", "shop.reliable"])
    expect(parseAnnouncement(bytes({ ...announcement, queue: good }), "shop.reliable")).toMatchObject({ queue: good });
});
