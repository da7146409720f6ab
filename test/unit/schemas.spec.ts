import * as v from "valibot";
import { expect, it } from "vitest";
import { z } from "zod";
import { schemaOf, validated } from "../../src/emit/schemas";
import { readOptions } from "../../src/options/resolve";
import { checkSchemas, fastestValidatorSchema, type StandardSchema } from "../../src/options/schemas";
import { systemClock } from "../../src/platform/clock";
import { errorOf } from "../support/services";

const parts = { timeoutMs: 1000, clock: systemClock };
const checked = async (schema: unknown, payload: unknown, more = {}) =>
  (await validated("order.created", payload, schema as StandardSchema, { ...parts, ...more })).value;

const SCHEMAS: [library: string, schema: () => unknown][] = [
  ["zod", () => z.object({ id: z.string(), lines: z.array(z.object({ count: z.number() })) })],
  ["valibot", () => v.object({ id: v.string(), lines: v.array(v.object({ count: v.number() })) })],
  // A module that cannot be required.
  ["arktype", async () => (await import("arktype")).type({ id: "string", lines: "unknown[]" })],
  [
    "fastest-validator",
    () =>
      fastestValidatorSchema({
        id: "string",
        lines: { type: "array", items: { type: "object", props: { count: "number" } } }
      })
  ]
];

it.each(SCHEMAS)("%s: what is right passes, what is wrong is told with its place", async (library, made) => {
  const schema = await made();
  const right = { id: "o1", lines: [{ count: 2 }] };
  expect(await checked(schema, right)).toEqual(right);
  const error = await errorOf(checked(schema, { id: 5, lines: [{ count: "two" }] }));
  expect(error).toMatchObject({ type: "RELIABLE_BAD_PAYLOAD", data: { event: "order.created" } });
  expect(error.message).toMatch(/^Cannot emit 'order\.created' reliably: payload\.id: /);
  expect(error.message).toMatch(library === "arktype" ? /string/ : /; payload\.lines(\.0|\[0\])\.count: /);
  expect((await errorOf(checked(schema, null))).type).toBe("RELIABLE_BAD_PAYLOAD");
});

it("what a schema makes of a payload is what counts; the caller's stays as it was", async () => {
  expect(await checked(z.object({ at: z.date().transform(at => at.getTime()) }), { at: new Date(5) })).toEqual({
    at: 5
  });
  const given = { id: " o1 " };
  const schema = fastestValidatorSchema({ id: { type: "string", trim: true }, count: { type: "number", default: 1 } });
  expect(await checked(schema, given)).toEqual({ id: "o1", count: 1 });
  expect(given).toEqual({ id: " o1 " });
});

it("what has a class of its own goes through fastest-validator as it is", async () => {
  class Decimal {
    toJSON() {
      return "1.10";
    }
  }
  const total = new Decimal();
  const schema = fastestValidatorSchema({ id: { type: "string", trim: true }, total: "any" });
  expect(((await checked(schema, { id: " o1", total })) as { total: Decimal }).total).toBe(total);
});

it("an asynchronous one is waited for, not for ever; one that throws or rejects is told", async () => {
  const known = z.object({ id: z.string().refine(async id => id === "o1", "is not known") });
  expect(await checked(known, { id: "o1" })).toEqual({ id: "o1" });
  expect((await errorOf(checked(known, { id: "o2" }))).message).toMatch(/payload\.id: is not known/);
  const standard = (validate: () => unknown) => ({ "~standard": { version: 1, vendor: "mine", validate } });
  const never = checked(
    standard(() => new Promise(() => undefined)),
    {},
    { timeoutMs: 20 }
  );
  expect(await errorOf(never)).toMatchObject({ type: "RELIABLE_NOT_STORED", retryable: true });
  const thrown = () => {
    throw new Error("no database");
  };
  for (const work of [
    () => checked(standard(thrown), {}),
    () =>
      checked(
        standard(async () => thrown()),
        {}
      )
  ])
    expect((await errorOf(work)).message).toBe(
      "Cannot emit 'order.created' reliably: its schema has thrown: no database."
    );
});

it("of many issues the first are told, and how many more there are", async () => {
  const shape = Object.fromEntries(Array.from({ length: 9 }, (_, n) => [`f${n}`, z.string()]));
  const error = await errorOf(checked(z.object(shape), {}));
  expect(error.message).toMatch(/; and 4 more\.$/);
  expect((error.data as { issues: object[] }).issues).toHaveLength(5);
});

it("an option that is no schema is refused with its event, and no event finds what every object has", async () => {
  for (const schemas of [
    { "order.created": { id: "string" } },
    { "order.created": null },
    { "order.created": () => true }
  ])
    expect(await errorOf(() => checkSchemas(schemas))).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      data: { option: "schemas", event: "order.created" }
    });
  expect((await errorOf(() => readOptions({ schemas: 5 }, {}, {}))).type).toBe("RELIABLE_BAD_OPTION");
  expect(await errorOf(() => readOptions({ schemas: Object.create(null) }, {}, {}))).toMatchObject({
    data: { option: "schemas" }
  });
  expect(schemaOf({}, "constructor")).toBeUndefined();
  expect(schemaOf({}, 5)).toBeUndefined();
});
