import { Redis } from "ioredis";
import { MongoClient } from "mongodb";
import { describe, expect, it } from "vitest";
import { ReliableEmit, ReliableService } from "../../src";
import { environmentName, fromEnvironment } from "../../src/options/environment";
import { mergeNode } from "../../src/options/merge";
import { OPTIONS, type OptionName } from "../../src/options/options";
import { checkTogether, consumerOptions, nodeOptions, readOptions, serviceOptions } from "../../src/options/resolve";
import { errorOf } from "../support/services";

const none = {};
const NAMES = Object.keys(OPTIONS) as OptionName[];

async function badOption(work: () => unknown): Promise<[type: string, message: string]> {
  const error = await errorOf(work);
  return [error.type as string, error.message];
}

describe("unknown options", () => {
  it.each([
    ["maxAttempt", "maxAttempts"],
    ["sweepEvery", "sweepEveryMs"],
    ["AMQP", "amqp"],
    ["ampq", "amqp"],
    ["drainTimeout", "drainTimeoutMs"],
    ["retainMS", "retainMs"],
    ["handlerTimeout", "handlerTimeoutMs"]
  ])("%s: did you mean %s?", async (name, near) => {
    expect(await badOption(() => readOptions({ [name]: 1 }, none, none))).toEqual([
      "RELIABLE_BAD_OPTION",
      `Unknown option '${name}' in ReliableEmit(). Did you mean '${near}'?`
    ]);
    expect((await errorOf(() => readOptions(none, { [name]: 1 }, none))).message).toContain(
      "in settings.reliable. Did you mean"
    );
  });

  it("offers nothing where nothing is near", async () => {
    expect(await badOption(() => readOptions({ colour: "red" }, none, none))).toEqual([
      "RELIABLE_BAD_OPTION",
      "Unknown option 'colour' in ReliableEmit()."
    ]);
  });

  it("is refused inside of an option too", async () => {
    expect(await badOption(() => readOptions({ backoff: { initialMs: 1, inital: 2 } }, none, none))).toEqual([
      "RELIABLE_BAD_OPTION",
      expect.stringMatching(/Unknown option 'backoff\.inital'|'backoff\.inital'/)
    ]);
  });

  it("throws where the mixin is written", async () => {
    for (const make of [ReliableEmit, ReliableService])
      expect(await badOption(() => make({ maxAttempt: 3 } as object))).toEqual([
        "RELIABLE_BAD_OPTION",
        expect.stringContaining("maxAttempts")
      ]);
  });
});

describe("wrong type or range", () => {
  it.each<[OptionName, unknown]>([
    ["sources", ["$node.list"]],
    ["sources", ["orders.*"]],
    ["maxAttempts", 0],
    ["maxAttempts", 101],
    ["maxAttempts", 1.5],
    ["maxAttempts", "many"],
    ["maxAttempts", "3"],
    ["maxAttempts", true],
    ["maxAttempts", Number.NaN],
    ["maxAttempts", Infinity],
    ["maxAttempts", [3]],
    ["sweepEveryMs", 0],
    ["sweepEveryMs", -1000],
    ["leaseMs", "30s"],
    ["partitions", 65],
    ["confirmTimeoutMs", 5],
    ["maxPayloadBytes", 17 * 1024 * 1024],
    ["service", "yes"],
    ["service", 1],
    ["sweeper", "off"],
    ["inbox", "transactions"],
    ["inbox", 1],
    ["strategy", "callbacks"],
    ["path", ""],
    ["path", 5],
    ["database", {}],
    ["backoff", 1000],
    ["breaker", 10],
    ["breaker", { failures: 0 }],
    ["breaker", { failures: 101 }],
    ["breaker", { pause: 5 }],
    ["backoff", { initialMs: 0 }],
    ["backoff", { jitter: "some" }],
    ["handlerTimeoutMs", 30 * 60_000],
    ["maxInFlight", 0]
  ])("%s: %j is refused, by name", async (name, value) => {
    const [type, message] = await badOption(() => readOptions({ [name]: value }, none, none));
    expect(type).toBe("RELIABLE_BAD_OPTION");
    expect(message).toContain(`'${name}`);
    expect(message).toContain("in ReliableEmit()");
  });

  it("every default is within its own limits", () => {
    const defaults = Object.fromEntries(
      NAMES.filter(name => OPTIONS[name].default !== undefined).map(name => [name, OPTIONS[name].default])
    );
    expect(readOptions(defaults, none, none)).toEqual(defaults);
  });

  it("undefined counts as not given", () => {
    expect(readOptions(Object.fromEntries(NAMES.map(name => [name, undefined])), none, none)).toEqual({});
  });
});

describe("addresses", () => {
  it.each<[string, unknown]>([
    ["amqp", "amqp://localhost"],
    ["amqp", "amqps://user:secret@a.example:5671/vhost"],
    ["amqp", "amqp://a;amqp://b"],
    ["amqp", "amqp://a, amqp://b"],
    ["amqp", ["amqp://a", "amqp://b"]],
    ["amqp", { urls: ["amqps://a"], tls: { ca: Buffer.from("x") } }],
    ["mongo", "mongodb://localhost:27017/app"],
    ["mongo", "mongodb+srv://user:secret@cluster.example"],
    ["mongo", new MongoClient("mongodb://localhost")],
    ["mongo", { url: "mongodb://a/?tls=true", tls: { ca: "x" } }],
    ["redis", { url: "rediss://a", tls: { ca: "x" } }],
    ["redis", "redis://localhost"],
    ["redis", "rediss://:secret@a.example:6380/2"],
    ["redis", new Redis({ lazyConnect: true })]
  ])("%s takes %s", (name, value) => {
    const values = readOptions({ [name]: value }, none, none);
    // A live client stays itself: a copy of it would be of no use.
    if (!["tls", "urls", "url"].some(key => key in Object(value))) expect(values[name]).toBe(value);
    else expect(values[name]).toEqual(value);
  });

  it.each<[string, unknown]>([
    ["amqp", "localhost"],
    ["amqp", "http://user:secret@localhost"],
    ["amqp", ""],
    ["amqp", []],
    ["amqp", ["amqp://a", 5]],
    ["amqp", {}],
    ["amqp", { url: "amqp://user:secret@a" }],
    ["amqp", { urls: "amqp://user:secret@a", tsl: {} }],
    ["amqp", 5672],
    ["amqp", null],
    ["mongo", "redis://user:secret@localhost"],
    ["amqp", { urls: "amqp://user:secret@a", tls: { ca: "x" } }],
    ["amqp", { urls: "amqps://user:secret@a", tls: "secret" }],
    ["amqp", "amqp://user:se/secret@a"],
    ["mongo", "mongodb://user:se?secret@a"],
    ["mongo", { url: "mongodb://a/?tls=false", tls: {} }],
    ["mongo", { url: "mongodb://user:secret@a", ca: "x" }],
    ["redis", { url: "redis://:secret@a", tls: {} }],
    ["redis", "redis://:se#secret@a"],
    ["mongo", {}],
    ["mongo", ""],
    ["redis", "user:secret@localhost"],
    ["redis", { host: "a", password: "secret" }],
    ["redis", true]
  ])("%s: %j is refused, without telling it", async (name, value) => {
    const [type, message] = await badOption(() => readOptions({ [name]: value }, none, none));
    expect(type).toBe("RELIABLE_BAD_OPTION");
    expect(message).toContain(`'${name}`);
    expect(message).not.toContain("secret");
  });
});

describe("where options come from", () => {
  it("argument over settings over environment", () => {
    const environment = {
      RELIABLE_MAX_ATTEMPTS: "7",
      RELIABLE_SWEEP_EVERY_MS: "500",
      RELIABLE_SWEEPER: "false",
      RELIABLE_AMQP: "amqp://env",
      OTHER: "x"
    };
    const values = readOptions(
      { maxAttempts: 1 },
      { maxAttempts: 2, amqp: "amqp://settings" },
      fromEnvironment(environment)
    );
    expect(values).toEqual({ maxAttempts: 1, amqp: "amqp://settings", sweepEveryMs: 500, sweeper: false });
  });

  it.each([
    ["RELIABLE_INBOX", "transaction", "inbox", "transaction"],
    ["RELIABLE_INBOX", "false", "inbox", false],
    ["RELIABLE_INBOX", "true", "inbox", true],
    ["RELIABLE_SERVICE", "0", "service", false],
    ["RELIABLE_MAX_IN_FLIGHT", "10", "maxInFlight", 10],
    ["RELIABLE_AMQP", "amqp://a;amqp://b", "amqp", "amqp://a;amqp://b"]
  ])("%s=%s", (variable, text, name, value) => {
    expect(environmentName(name as OptionName)).toBe(variable);
    expect(readOptions(none, none, fromEnvironment({ [variable]: text }))).toEqual({ [name]: value });
  });

  it("a bad value from the environment is told as such", async () => {
    expect(await badOption(() => readOptions(none, none, fromEnvironment({ RELIABLE_MAX_ATTEMPTS: "three" })))).toEqual(
      ["RELIABLE_BAD_OPTION", expect.stringMatching(/'maxAttempts'.*RELIABLE_/)]
    );
    expect(readOptions(none, none, fromEnvironment({ RELIABLE_MAX_ATTEMPTS: "" }))).toEqual({});
  });

  it("a partial breaker keeps the service's other parts, false switches it off, and true is all defaults", () => {
    const preset = { failures: 10, pauseMs: 1000, maxPauseMs: 30_000, patienceMs: 0 };
    const service = serviceOptions(readOptions({ breaker: { failures: 3, pauseMs: 5 } }, none, none));
    expect(service.breaker).toEqual({ ...preset, failures: 3, pauseMs: 5 });
    const of = (breaker: unknown, from = service) => consumerOptions("event 'x'", { breaker }, from).breaker;
    expect(consumerOptions("event 'x'", true, service).breaker).toEqual(service.breaker);
    expect(of({ patienceMs: 7 })).toEqual({ ...service.breaker, patienceMs: 7 });
    expect(of(false)).toBe(false);
    expect(of(true)).toEqual(preset);
    const off = serviceOptions(readOptions({ breaker: false }, none, none));
    expect(off.breaker).toBe(false);
    expect(consumerOptions("event 'x'", true, off).breaker).toBe(false);
    expect(of({ failures: 2 }, off)).toEqual({ ...preset, failures: 2 });
    const given = readOptions(none, none, fromEnvironment({ RELIABLE_BREAKER: "false" }));
    expect(serviceOptions(given).breaker).toBe(false);
  });

  it("a partial backoff keeps the other defaults, and nobody's object is changed", () => {
    const mine = Object.freeze({ backoff: Object.freeze({ initialMs: 5 }) });
    expect(serviceOptions(readOptions(mine, none, none)).backoff).toEqual({
      initialMs: 5,
      maxMs: 300_000,
      jitter: "half"
    });
  });

  it("an event's own options stand over its service's", async () => {
    const service = serviceOptions({ maxInFlight: 7, inbox: false });
    expect(consumerOptions("here", true, service)).toMatchObject({ maxInFlight: 7, inbox: false, deliveryLimit: 20 });
    expect(consumerOptions("here", { maxInFlight: 3, inbox: true }, service)).toMatchObject({
      maxInFlight: 3,
      inbox: true
    });
    for (const bad of ["yes", 1, null, [], { maxInflight: 3 }, { maxInFlight: 0 }, { amqp: "amqp://a" }])
      expect((await errorOf(() => consumerOptions("events['a'] of service 'b'", bad, service))).type).toBe(
        "RELIABLE_BAD_CONSUMER"
      );
  });
});

it.each<[string, Record<string, unknown>, object | false]>([
  ["not given", {}, { targetMs: 500, waitMs: 300, minPerSecond: 250 }],
  ["true", { admission: true }, { targetMs: 500, waitMs: 300, minPerSecond: 250 }],
  ["a part of it", { admission: { waitMs: 50 } }, { targetMs: 500, waitMs: 50, minPerSecond: 250 }],
  ["false", { admission: false }, false]
])("admission, %s", (_, values, admission) => {
  expect(nodeOptions(values).admission).toEqual(admission);
});

describe("several services of one node", () => {
  it("may each give some of the node's options, and the same twice", () => {
    const node = {};
    mergeNode(node, { amqp: ["amqp://a"], sweeper: true }, "one");
    mergeNode(node, { amqp: ["amqp://a"], mongo: "mongodb://a", maxAttempts: 5 }, "two");
    expect(nodeOptions(node)).toMatchObject({ amqp: ["amqp://a"], mongo: "mongodb://a", sweeper: true });
  });

  it("may not contradict each other, and no value is told", async () => {
    const node = { amqp: "amqp://user:secret@a" };
    const [type, message] = await badOption(() => mergeNode(node, { amqp: "amqp://user:secret@b" }, "two"));
    expect([type, message]).toEqual(["RELIABLE_BAD_OPTION", expect.stringMatching(/'two'.*'amqp'/)]);
    expect(message).not.toContain("secret");
  });
});

describe("an observer", () => {
  const servers = { amqp: "amqp://one", mongo: "mongodb://one" };
  it.each([
    [{}, "observer", "needs 'amqp' and 'mongo'"],
    [{ mongo: servers.mongo }, "observer", "needs 'amqp':"],
    [{ amqp: servers.amqp, path: "/tmp/x" }, "observer", "needs 'mongo':"],
    [{ ...servers, service: false }, "observer", "'observer' and 'service' contradict"],
    [{ ...servers, sweeper: true }, "observer", "'observer' and 'sweeper' contradict"]
  ])("%o is refused", async (given, option, text) => {
    const values = { observer: true, ...given };
    const error = await errorOf(() => checkTogether(nodeOptions(values), values));
    expect(error).toMatchObject({ type: "RELIABLE_BAD_OPTION", data: { option } });
    expect(error.message).toContain(text);
  });

  it("sees what it is to see; and `service: true` and `sweeper: false` are what it is anyway", () => {
    const values = { ...servers, observer: true, service: true, sweeper: false };
    expect(() => checkTogether(nodeOptions(values), values)).not.toThrow();
  });
});
