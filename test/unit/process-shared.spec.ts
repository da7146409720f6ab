import { readFileSync } from "node:fs";
import { ServiceBroker } from "moleculer";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { checkMoleculer } from "../../mixins/moleculer-version";
import { ReliableEmit, ReliableService } from "../../src";
import { VERSION } from "../../src/platform/process-shared";
import { errorOf } from "../support/services";

const brokers: ServiceBroker[] = [];

beforeEach(() => vi.resetModules());

afterEach(async () => {
  await Promise.all(brokers.splice(0).map(broker => broker.stop()));
  vi.doUnmock("../../src/platform/process-shared");
  vi.doUnmock("moleculer");
});

function newBroker(nodeID: string, namespace = "copies"): ServiceBroker {
  const broker = new ServiceBroker({ nodeID, namespace, logger: false });
  brokers.push(broker);
  return broker;
}

/** Another copy of the package, with modules of its own. */
async function copy(version: string): Promise<typeof import("../../src")> {
  vi.doMock("../../src/platform/process-shared", async original => {
    const copies = await original<typeof import("../../src/platform/process-shared")>();
    const sameVersion = (other: string, what: string) => {
      if (other !== version)
        throw Object.assign(new Error(`${what}: ${other}, ${version}`), { type: "RELIABLE_WRONG_VERSION" });
    };
    return { ...copies, VERSION: version, sameVersion };
  });
  return import("../../src/index.js");
}

const emitting = (mixin: object) => ({ name: "orders", mixins: [mixin] });

const consuming = (mixin: object, handled: unknown[]) => ({
  name: "stock",
  mixins: [mixin],
  events: { "order.created": { reliable: true, handler: (ctx: { params: unknown }) => void handled.push(ctx.params) } }
});

async function emitted(broker: ServiceBroker): Promise<{ status: string }> {
  const orders = broker.getLocalService("orders") as unknown as {
    reliableEmit(event: string, payload: unknown, options: object): Promise<{ status: string }>;
  };
  return orders.reliableEmit("order.created", { n: 1 }, { waitFor: "consumed", groups: "stock" });
}

it("the version is that of package.json", () => {
  expect(VERSION).toBe((JSON.parse(readFileSync("package.json", "utf8")) as { version: string }).version);
});

it("two copies of one version work as one on a broker, and side by side in a process", async () => {
  const other = await copy(VERSION);
  expect(other.ReliableEmit).not.toBe(ReliableEmit);
  const handled: unknown[] = [];
  const one = newBroker("one");
  one.createService(emitting(ReliableEmit()));
  one.createService(consuming(other.ReliableEmit(), handled));
  const two = newBroker("two");
  two.createService(emitting(other.ReliableEmit()));
  await Promise.all([one.start(), two.start()]);
  expect(one.services.filter(({ name }) => name === "reliable")).toHaveLength(1);
  for (const broker of [one, two]) expect(await emitted(broker)).toMatchObject({ status: "consumed" });
  expect(handled).toEqual([{ n: 1 }, { n: 1 }]);
});

it("a copy of another version is refused on the same broker, and with the same embedded default", async () => {
  const other = await copy("9.9.9");
  const one = newBroker("one");
  one.createService(emitting(ReliableEmit()));
  const refused = await errorOf(() => one.createService(consuming(other.ReliableEmit(), [])));
  expect(refused).toMatchObject({ type: "RELIABLE_WRONG_VERSION", message: expect.stringContaining("'one'") });
  await one.start();

  const two = newBroker("two");
  two.createService(emitting(other.ReliableEmit()));
  expect(await errorOf(two.start())).toMatchObject({
    type: "RELIABLE_WRONG_VERSION",
    message: expect.stringMatching(/in-process courier.*0\.1\.0, 9\.9\.9/)
  });
  // Elsewhere it disturbs nobody.
  const three = newBroker("three", "elsewhere");
  three.createService(emitting(other.ReliableEmit()));
  await three.start();
});

it.each([
  ["0.13.13", false],
  ["0.14.0-beta5", false],
  ["0.14.11", false],
  ["0.14.12", true],
  ["0.14.36", true],
  ["0.15.0-beta1", true],
  ["0.15.2", true],
  ["1.0.0", true],
  ["next", true],
  [undefined, true]
])("Moleculer %s is taken: %s", async (version, taken) => {
  if (taken) return checkMoleculer(version);
  expect(await errorOf(() => checkMoleculer(version))).toMatchObject({
    type: "RELIABLE_WRONG_VERSION",
    retryable: false,
    message: `moleculer-reliable-emit needs Moleculer 0.14.12 or newer; this is ${version}.`
  });
});

it("an old Moleculer is told where the mixin is made, and where a broker is of another Moleculer than ours", async () => {
  const broker = newBroker("old");
  Object.defineProperty(broker, "MOLECULER_VERSION", { value: "0.14.11" });
  expect(await errorOf(() => broker.createService(emitting(ReliableEmit())))).toMatchObject({
    type: "RELIABLE_WRONG_VERSION",
    message: expect.stringContaining("0.14.11")
  });

  const { MOLECULER_VERSION } = ServiceBroker;
  try {
    Object.assign(ServiceBroker, { MOLECULER_VERSION: "0.14.11" });
    for (const make of [ReliableEmit, ReliableService])
      expect(await errorOf(() => make())).toMatchObject({ type: "RELIABLE_WRONG_VERSION" });
  } finally {
    Object.assign(ServiceBroker, { MOLECULER_VERSION });
  }
});
