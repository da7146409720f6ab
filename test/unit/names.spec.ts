import { describe, expect, it } from "vitest";
import { emitOptionsOf } from "../../src/amqp-queue/queues";
import { delayQueueName, eventsExchange } from "../../src/couriers/amqp/topology";
import { databaseFault } from "../../src/options/addresses";
import { LONGEST_MS } from "../../src/options/option";
import { readOptions } from "../../src/options/resolve";
import { checkNamespace } from "../../src/runtime/names";
import { COLLECTION_NAMES } from "../../src/stores/documents/collection";
import { collectionNameFault, fileNameFault, fileNameOf, prefixOf, systemQueues } from "../../src/wire/names";
import { errorOf } from "../support/services";

const amqp = { amqp: "amqp://a" } as never;
const memory = {} as never;

/** The longest namespace that is taken. */
function longest(fault: (namespace: string) => unknown): number {
  let bytes = 1;
  while (!fault("n".repeat(bytes + 1))) bytes++;
  return bytes;
}

const fits = (names: string[]) => names.every(name => Buffer.byteLength(name) <= 255);

describe("a namespace that a server would change or refuse", () => {
  it.each([
    ["shop\n", memory, "line end"],
    ["shop\u2028", memory, "line end"],
    ["shop\ud800", memory, "control character"],
    ["a.reliable.on.stock", memory, "'reliable.on.'"],
    ["amq", amqp, "'amq.'"],
    ["amq.shop", amqp, "'amq.'"],
    ["n".repeat(250), amqp, "250 bytes"],
    ["ö".repeat(125), amqp, "250 bytes"]
  ])("%j is refused at start, by name", async (namespace, options, says) => {
    expect(await errorOf(() => checkNamespace(namespace, options))).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      message: expect.stringContaining(says),
      data: { option: "namespace" }
    });
  });

  it.each(["", "shop", "shop prod", "Shop/1:ä", "a$b", "amqp", "reliable", "reliable.prod"])("%j is taken", namespace =>
    checkNamespace(namespace, amqp)
  );

  it("RabbitMQ: with the longest one every name of ours is short enough, and the next one has a name that is not", () => {
    const names = (namespace: string) => {
      const queues = systemQueues(namespace);
      return [...Object.values(queues), delayQueueName(queues.checks, LONGEST_MS), eventsExchange(namespace).name];
    };
    const most = longest(namespace => {
      try {
        checkNamespace(namespace, amqp);
        return false;
      } catch {
        return true;
      }
    });
    expect(fits(names("n".repeat(most)))).toBe(true);
    expect(fits(names("n".repeat(most + 1)))).toBe(false);
  });

  it.each([
    ["a$b", "'$'"],
    [".a", "empty word"],
    ["a..b", "empty word"],
    ["a.", "empty word"],
    ["system", "'system.'"],
    ["system.a", "'system.'"],
    ["n".repeat(220), "220 bytes"]
  ])("MongoDB: %j is refused", (namespace, says) => {
    expect(collectionNameFault(namespace, "shop")).toContain(says);
  });

  it("MongoDB: with the longest one no collection has more than 235 bytes, the limit of a sharded one", () => {
    const most = longest(namespace => collectionNameFault(namespace, "d".repeat(63)));
    const lengths = (bytes: number) =>
      COLLECTION_NAMES.map(name => `${"d".repeat(63)}.${prefixOf("n".repeat(bytes))}.${name}`.length);
    expect(Math.max(...lengths(most))).toBe(235);
    expect(collectionNameFault("systems.a", "shop")).toBeUndefined();
  });
});

describe("a file name of the embedded store", () => {
  it("is one to one, also where capital letters count as small ones", () => {
    const namespaces = [
      "Shop",
      "shop",
      "sHop",
      "%53hop",
      "a/b",
      "a%2fb",
      "a%2Fb",
      "a*b",
      "a:b",
      "",
      "ä",
      "Ä",
      "con(1)"
    ];
    const names = namespaces.map(fileNameOf);
    expect(new Set(names.map(name => name.toLowerCase())).size).toBe(namespaces.length);
    for (const name of names) expect(name).toMatch(/^[a-z0-9%A-F._-]+$/);
    expect(fileNameOf("shop-1.prod_a")).toBe("shop-1.prod_a.reliable");
  });

  it("is short enough for a file system", () => {
    const most = longest(fileNameFault);
    expect(`${fileNameOf("n".repeat(most))}.subscriptions.db.torn~`).toHaveLength(255);
    expect(fileNameFault("ä".repeat(60))).toContain("too long");
  });
});

it("a queue for jobs has none of RabbitMQ's own names", async () => {
  expect(await errorOf(() => emitOptionsOf("amq.gen-1", {}, {}, "shop"))).toMatchObject({
    type: "RELIABLE_BAD_EVENT",
    message: expect.stringContaining("'amq.'")
  });
  expect(emitOptionsOf("amqp.jobs", {}, {}, "shop").groups).toEqual(["queue-confirm/amqp.jobs"]);
});

describe("a name of a database", () => {
  it.each([
    "admin",
    "Local",
    "config",
    "a.b",
    "a b",
    "$x",
    "a/b",
    "a\\b",
    'a"b',
    "a\nb",
    "x".repeat(64),
    "ü".repeat(32)
  ])("%j is refused where the mixin is written", async database => {
    expect(await errorOf(() => readOptions({ database }, {}, {}))).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      message: expect.stringContaining("'database'"),
      data: { option: "database" }
    });
  });

  it.each(["reliable", "shop-prod_1", "ü", "x".repeat(63), "administration"])("%j is taken", database => {
    expect(databaseFault(database)).toBeUndefined();
  });
});
