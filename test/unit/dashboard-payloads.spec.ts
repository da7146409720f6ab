import { expect, it } from "vitest";
import type { OwnPortDashboardOptions } from "../../src/dashboard/options";
import type { Redact } from "../../src/dashboard/payloads";
import { systemQueues } from "../../src/wire/names";
import { served } from "../support/dashboard";
import { read } from "../support/web";

const CARD = "4111 1111 1111 1111";
const STORY = {
  id: "order-1",
  event: "order.created",
  status: "dead",
  payload: { total: 12, card: CARD },
  meta: { user: { name: "Zoë Secret" } },
  groups: []
};
const PARKED_ROW = {
  id: "p-1",
  queue: "mail",
  reason: "not JSON",
  bytes: 9,
  encoding: "utf8",
  body: `{"card":"${CARD}`
};
const PARKED = {
  ...PARKED_ROW,
  body: JSON.stringify({ card: CARD }),
  cut: false,
  properties: {},
  headers: { a: CARD }
};

function page(options: Partial<OwnPortDashboardOptions>, parked: object = PARKED, story: object = STORY) {
  return served(options, {
    get: () => story,
    parked: ({ id }) => (id === undefined ? { rows: [PARKED_ROW], total: 1 } : parked)
  });
}

it("shown by default; not sent where the page does not want it", async () => {
  const { port, calls } = await page({});
  expect((await read(port, "/api/get", { id: "order-1" })).json).toEqual(STORY);
  const { payload, ...rest } = STORY;
  expect((await read(port, "/api/get", { id: "order-1", payload: false })).json).toEqual(rest);
  expect((await read(port, "/api/payload", { id: "order-1" })).json).toEqual({ payload });
  expect((await read(port, "/api/parked", {})).json).toEqual({ rows: [PARKED_ROW], total: 1 });
  // The action knows no such param.
  expect(calls.slice(0, 3).map(({ params }) => params)).toEqual(Array.from({ length: 3 }, () => ({ id: "order-1" })));
});

it("hidden until asked for: with meta, and of parked ones the bodies of lists", async () => {
  const { port } = await page({ hidePayloads: true });
  const { payload, meta, ...rest } = STORY;
  for (const params of [{ id: "order-1" }, { id: "order-1", payload: true }])
    expect((await read(port, "/api/get", params)).json).toEqual(rest);
  expect((await read(port, "/api/payload", { id: "order-1" })).json).toEqual({ payload, meta });
  const { body, encoding, ...row } = PARKED_ROW;
  expect((await read(port, "/api/parked", {})).json).toEqual({ rows: [row], total: 1 });
  expect((await read(port, "/api/parked", { id: "p-1" })).json).toEqual(PARKED);
});

const masked: Redact = payload => ({ ...(payload as object), card: "…" });

it("redacted wherever it leaves, and told whose it is", async () => {
  const owners: unknown[] = [];
  const { port } = await page({
    redact: (payload, owner) => {
      owners.push(owner);
      return masked(payload, owner);
    }
  });
  for (const name of ["get", "payload"]) {
    const { text, json } = await read(port, `/api/${name}`, { id: "order-1" });
    expect(json["payload"]).toEqual({ total: 12, card: "…" });
    expect(text).not.toContain(CARD);
  }
  const one = await read(port, "/api/parked", { id: "p-1" });
  expect(one.json["body"]).toBe('{"card":"…"}');
  expect(one.text).not.toContain(CARD);
  expect((await read(port, "/api/parked", {})).text).not.toContain(CARD);
  expect(owners).toEqual([
    { id: "order-1", event: "order.created" },
    { id: "order-1", event: "order.created" },
    { id: "p-1" }
  ]);
});

it.each<[string, Redact]>([
  [
    "throws, with the payload in its text",
    payload => {
      throw new Error(JSON.stringify(payload));
    }
  ],
  ["rejects", async payload => Promise.reject(new TypeError(JSON.stringify(payload)))],
  ["throws what is no error", payload => Promise.reject(JSON.stringify(payload))],
  ["returns nothing", () => undefined]
])("where redact %s nothing is shown, and it is said", async (_, redact) => {
  const { port, lines } = await page({ redact });
  for (const [name, params] of [
    ["get", { id: "order-1" }],
    ["payload", { id: "order-1" }],
    ["parked", { id: "p-1" }]
  ] as const) {
    const { status, text, json } = await read(port, `/api/${name}`, params);
    expect([name, status]).toEqual([name, 200]);
    expect(json["withheld"]).toContain("'redact' has failed");
    expect(json["payload"] ?? json["body"] ?? null).toBeNull();
    expect(text).not.toContain(CARD);
  }
  expect(lines.length).toBeGreaterThan(0);
  expect(lines.join()).not.toContain(CARD);
});

it.each<[string, object]>([
  ["that is no JSON", { body: `card ${CARD}` }],
  ["that is cut", { body: `{"card":"${CARD}`, cut: true }],
  ["of bytes", { encoding: "base64", body: Buffer.from(CARD).toString("base64") }],
  [
    "in which a message may be a copy, in base64",
    {
      queue: systemQueues("shop").receipts,
      body: JSON.stringify([{ body: Buffer.from(JSON.stringify({ card: CARD })).toString("base64") }])
    }
  ]
])("a parked body %s cannot be redacted, so it is not shown", async (_, more) => {
  const parked = { ...PARKED, ...more };
  const { port } = await page({ redact: masked }, parked);
  const { json, text } = await read(port, "/api/parked", { id: "p-1" });
  expect(json["withheld"]).toContain("cannot tell");
  expect(json).not.toHaveProperty("body");
  for (const secret of [CARD, Buffer.from(CARD).toString("base64"), (parked as { body: string }).body])
    expect(text).not.toContain(secret);
});

it("what was dropped, or encoded, is said", async () => {
  const dropped = { ...STORY, payload: null, payloadDroppedAt: "2026-11-26T03:00:00.000Z" };
  const { port } = await page({ redact: masked }, PARKED, dropped);
  expect((await read(port, "/api/payload", { id: "order-1" })).json).toEqual({
    payload: null,
    payloadDroppedAt: "2026-11-26T03:00:00.000Z"
  });
  const encoded = await page({}, PARKED, { ...STORY, payload: "qk3=", encoded: true });
  expect((await read(encoded.port, "/api/payload", { id: "order-1" })).json).toEqual({
    payload: "qk3=",
    encoded: true
  });
});
