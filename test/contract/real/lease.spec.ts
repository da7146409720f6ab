import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../../src/platform/clock";
import { type LeaseOptions, Leases, type RedisClient } from "../../../src/sweeper/lease";
import { until } from "../../support/brokers";
import { silent } from "../../support/messages";
import { urls } from "../../support/servers";

let redis: Redis;
beforeAll(() => void (redis = new Redis(urls().redis)));
afterAll(() => redis.quit());

/**
 * Leases whose own clock the test moves, and whose renewals the test asks for. Redis' clock is real, so their ttl there
 * is long.
 */
function contender(prefix: string, owner: string, options: Partial<LeaseOptions> = {}, client: RedisClient = redis) {
  const clock = { now: 1000 };
  const leases = new Leases(client, {
    prefix,
    owner,
    ttlMs: 60_000,
    partitions: 1,
    logger: silent,
    clock: { ...systemClock, monotonic: () => clock.now },
    ...options
  });
  onTestFinished(() => leases.stop());
  return {
    leases,
    clock,
    held: () => [...leases.held().keys()].sort((a, b) => a - b),
    token: () => Number(leases.held().get(0))
  };
}

function newPrefix(): string {
  const prefix = `test-${randomUUID()}`;
  onTestFinished(async () => {
    const keys = await redis.keys(`{${prefix}:*`);
    if (keys.length) await redis.del(...keys);
  });
  return prefix;
}

const leaseKey = (prefix: string, partition = 0) => `{${prefix}:sweep:${partition}}:lease`;
/** What the passing of time would do in Redis. */
const expire = (prefix: string, partition = 0) => redis.del(leaseKey(prefix, partition));
const forgetOwner = (prefix: string, owner: string) => redis.zrem(`{${prefix}:sweepers}`, owner);

describe("one partition", () => {
  it("is held by one, refused to the other, free again after a release", async () => {
    const prefix = newPrefix();
    const [a, b] = [contender(prefix, "a"), contender(prefix, "b")];
    await a.leases.renew();
    await b.leases.renew();
    expect([a.leases.mode, a.held(), b.leases.mode, b.held()]).toEqual(["held", [0], "standby", []]);
    expect(await b.leases.holders()).toEqual(["a"]);
    await a.leases.stop();
    expect(await b.leases.holders()).toEqual([null]);
    await b.leases.renew();
    expect([a.held(), b.held()]).toEqual([[], [0]]);
  });

  it("is extended by its holder, under the same token", async () => {
    const prefix = newPrefix();
    const a = contender(prefix, "a");
    await a.leases.renew();
    const token = a.token();
    await redis.pexpire(leaseKey(prefix), 5000);
    a.clock.now += 50_000;
    await a.leases.renew();
    expect(await redis.pttl(leaseKey(prefix))).toBeGreaterThan(50_000);
    a.clock.now += 50_000;
    expect([a.held(), a.token()]).toEqual([[0], token]);
  });

  it("ends by the holder's own clock, a tenth before it ends in Redis", async () => {
    const a = contender(newPrefix(), "a");
    await a.leases.renew();
    a.clock.now += 53_999;
    expect(a.held()).toEqual([0]);
    a.clock.now += 1;
    expect(a.held()).toEqual([]);
    expect(a.leases.mode).not.toBe("held");
  });

  it("that ran out before it was renewed was lost for a moment, and that is told; one renewed in time is not", async () => {
    const a = contender(newPrefix(), "a");
    await a.leases.renew();
    let told = 0;
    a.leases.on("changed", () => void told++);
    a.clock.now += 53_999;
    await a.leases.renew();
    expect([a.held(), told]).toEqual([[0], 0]);
    a.clock.now += 54_000;
    expect(a.leases.mode).toBe("standby");
    await a.leases.renew();
    expect([a.held(), told]).toEqual([[0], 1]);
  });

  it("grows its fence token with each new holder", async () => {
    const prefix = newPrefix();
    const tokens: number[] = [];
    for (const owner of ["a", "b", "a"]) {
      const contending = contender(prefix, owner);
      await contending.leases.renew();
      tokens.push(contending.token());
      await contending.leases.stop();
    }
    expect(tokens[1]).toBeGreaterThan(tokens[0] as number);
    expect(tokens[2]).toBeGreaterThan(tokens[1] as number);
  });

  it("cannot be extended nor released by an owner that has lost it", async () => {
    const prefix = newPrefix();
    const [a, b] = [contender(prefix, "a"), contender(prefix, "b")];
    await a.leases.renew();
    // Paused for longer than its lease.
    await expire(prefix);
    await b.leases.renew();
    const changed = new Promise<void>(resolve => a.leases.on("changed", resolve));
    await a.leases.renew();
    await changed;
    expect([a.leases.mode, a.held()]).toEqual(["standby", []]);
    const stale = contender(prefix, "a");
    await stale.leases.renew();
    await a.leases.stop();
    await stale.leases.stop();
    expect(await redis.get(leaseKey(prefix))).toBe("b");
    expect(b.held()).toEqual([0]);
  });

  it("is not released by an owner that believes to hold it", async () => {
    const prefix = newPrefix();
    const [a, b] = [contender(prefix, "a"), contender(prefix, "b")];
    await a.leases.renew();
    await expire(prefix);
    await b.leases.renew();
    expect(a.held()).toEqual([0]);
    await a.leases.stop();
    expect(await redis.get(leaseKey(prefix))).toBe("b");
  });

  it("counts from before the request: a slow answer shortens it, a very slow one is worth nothing", async () => {
    const slow = (ms: number) => {
      const made = contender(
        newPrefix(),
        "a",
        {},
        {
          eval: async (...args) => {
            made.clock.now += ms;
            return redis.eval(...(args as Parameters<Redis["eval"]>));
          }
        }
      );
      return made;
    };
    const some = slow(1000);
    await some.leases.renew();
    some.clock.now += 52_999;
    expect(some.held()).toEqual([0]);
    some.clock.now += 1;
    expect(some.held()).toEqual([]);
    const very = slow(54_000);
    await very.leases.renew();
    expect(very.held()).toEqual([]);
  });

  it("is taken over as soon as it expires, by real clocks", async () => {
    const prefix = newPrefix();
    const real = { ttlMs: 3000, clock: systemClock };
    const victim = contender(prefix, "victim", real);
    await victim.leases.renew();
    const heir = contender(prefix, "heir", real);
    const taken = new Promise<void>(resolve => heir.leases.on("changed", () => heir.held().length && resolve()));
    await heir.leases.renew();
    expect(heir.leases.mode).toBe("standby");
    // It vanishes: no renewal, no release.
    victim.leases.renew = async () => undefined;
    const from = performance.now();
    await taken;
    expect(performance.now() - from).toBeLessThan(2 * 3000);
    expect(victim.held()).toEqual([]);
  });
});

describe("several partitions", () => {
  it.each([
    [2, 4],
    [3, 4],
    [4, 4],
    [2, 3],
    [4, 64],
    [3, 2]
  ])("%i owners share %i fairly, and leave none", async (count, partitions) => {
    const prefix = newPrefix();
    const owners = Array.from({ length: count }, (_, n) => contender(prefix, `owner-${n}`, { partitions }));
    // Those above their share give back in one round, the others take it in the next.
    for (let round = 0; round < 3; round++) for (const { leases } of owners) await leases.renew();
    const held = owners.map(owner => owner.held());
    expect(held.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: partitions }, (_, partition) => partition));
    for (const partitionsOf of held) expect(partitionsOf.length).toBeLessThanOrEqual(Math.ceil(partitions / count));
  });

  it("go to those who are left when an owner vanishes", async () => {
    const prefix = newPrefix();
    const [a, b] = [contender(prefix, "a", { partitions: 4 }), contender(prefix, "b", { partitions: 4 })];
    for (let round = 0; round < 3; round++) for (const { leases } of [a, b]) await leases.renew();
    expect([a.held().length, b.held().length]).toEqual([2, 2]);
    await forgetOwner(prefix, "a");
    for (const partition of a.held()) await expire(prefix, partition);
    await b.leases.renew();
    expect(b.held()).toEqual([0, 1, 2, 3]);
  });

  it("go to those who are left within the lease, by real clocks", async () => {
    const prefix = newPrefix();
    const real = { ttlMs: 6000, clock: systemClock, partitions: 4 };
    const victim = contender(prefix, "victim", real);
    const heir = contender(prefix, "heir", real);
    for (let round = 0; round < 3; round++) for (const { leases } of [victim, heir]) await leases.renew();
    expect(heir.held().length).toBe(2);
    await victim.leases.renew();
    victim.leases.renew = async () => undefined;
    const from = performance.now();
    await new Promise<void>(resolve => heir.leases.on("changed", () => heir.held().length === 4 && resolve()));
    // A third of the lease more than that would mean that it waited for its own next renewal.
    expect(performance.now() - from).toBeLessThan(6000 + 1800);
  });

  it("go at once to those who are left when an owner stops", async () => {
    const prefix = newPrefix();
    const [a, b] = [contender(prefix, "a", { partitions: 4 }), contender(prefix, "b", { partitions: 4 })];
    for (let round = 0; round < 3; round++) for (const { leases } of [a, b]) await leases.renew();
    await a.leases.stop();
    await b.leases.renew();
    expect(b.held()).toEqual([0, 1, 2, 3]);
  });
});

describe("without Redis", () => {
  const broken = { eval: () => Promise.reject(new Error("ECONNREFUSED")) };

  it("nothing is held, and the mode is unlocked", async () => {
    const a = contender(newPrefix(), "a", {}, broken);
    await a.leases.renew();
    expect([a.leases.mode, a.held()]).toEqual(["unlocked", []]);
    await expect(a.leases.holders()).rejects.toThrow("ECONNREFUSED");
  });

  it("what is held stays held until its own end, then it is unlocked, then Redis is back", async () => {
    let down = false;
    const a = contender(
      newPrefix(),
      "a",
      {},
      {
        eval: (...args) =>
          down
            ? Promise.reject(new Error("gone"))
            : (redis.eval(...(args as Parameters<Redis["eval"]>)) as Promise<unknown>)
      }
    );
    const changes: string[] = [];
    a.leases.on("changed", () => changes.push(a.leases.mode));
    await a.leases.renew();
    down = true;
    await a.leases.renew();
    expect(a.leases.mode).toBe("held");
    a.clock.now += 54_000;
    await a.leases.renew();
    expect(a.leases.mode).toBe("unlocked");
    down = false;
    await a.leases.renew();
    expect(a.leases.mode).toBe("held");
    expect([changes[0], changes.at(-2), changes.at(-1)]).toEqual(["held", "unlocked", "held"]);
  });

  it("a Redis that was flushed is asked again, harmlessly", async () => {
    const prefix = newPrefix();
    const [a, b] = [contender(prefix, "a"), contender(prefix, "b")];
    await a.leases.renew();
    await redis.del(...(await redis.keys(`{${prefix}:*`)));
    await b.leases.renew();
    await a.leases.renew();
    expect([a.held(), b.held()]).toEqual([[], [0]]);
  });
});

describe("an answer that comes late", () => {
  const isAcquire = ([, keys]: unknown[]) => keys === 2;

  /** A client that keeps scripts back, before or after Redis has run them, until the test lets them go. */
  function keeping(when: "before" | "after", kept: (call: unknown[]) => boolean) {
    let letGo = () => {};
    const calls: unknown[][] = [];
    const gate = new Promise<void>(resolve => (letGo = resolve));
    const client: RedisClient = {
      eval: async (...call) => {
        calls.push(call);
        const keep = kept(call);
        if (keep && when === "before") await gate;
        const answer = await redis.eval(...(call as Parameters<Redis["eval"]>));
        if (keep && when === "after") await gate;
        return answer;
      }
    };
    return { client, calls, letGo: () => letGo() };
  }

  it("is no lease, and what it grants is given back", async () => {
    const prefix = newPrefix();
    const { client, letGo } = keeping("after", isAcquire);
    const a = contender(prefix, "a", {}, client);
    await a.leases.renew();
    expect([a.leases.mode, a.held(), await redis.get(leaseKey(prefix))]).toEqual(["unlocked", [], "a"]);
    letGo();
    await until(
      () => redis.get(leaseKey(prefix)),
      holder => holder === null
    );
    expect(a.held()).toEqual([]);
  });

  it("to a renewal ends no lease that is still held", async () => {
    const prefix = newPrefix();
    let late = false;
    const { client, calls, letGo } = keeping("after", call => late && isAcquire(call));
    const a = contender(prefix, "a", {}, client);
    await a.leases.renew();
    late = true;
    await a.leases.renew();
    letGo();
    await redis.ping();
    expect([a.leases.mode, await redis.get(leaseKey(prefix))]).toEqual(["held", "a"]);
    expect(calls.filter(isAcquire)).toHaveLength(2);
  });

  it.each([
    ["the presence", (call: unknown[]) => call[1] === 1],
    ["the lease", isAcquire]
  ] as const)("after the stop leaves nothing behind: %s", async (_, kept) => {
    const prefix = newPrefix();
    const { client, letGo } = keeping("before", kept);
    const a = contender(prefix, "a", {}, client);
    await a.leases.renew();
    await a.leases.stop();
    letGo();
    await until(
      async () => [await redis.get(leaseKey(prefix)), await redis.zcard(`{${prefix}:sweepers}`)],
      left => left[0] === null && left[1] === 0
    );
  });

  it("is not waited for by a stop, which ends the round and gives back what it has asked for", async () => {
    const prefix = newPrefix();
    const { client, calls, letGo } = keeping("after", isAcquire);
    const a = contender(prefix, "a", { partitions: 4 }, client);
    const round = a.leases.renew();
    await until(
      () => a.leases.holders(),
      holders => holders.includes("a")
    );
    await a.leases.stop();
    expect(await contender(prefix, "b", { partitions: 4 }).leases.holders()).toEqual([null, null, null, null]);
    letGo();
    await round;
    expect(calls.filter(isAcquire)).toHaveLength(1);
    expect(a.held()).toEqual([]);
  });
});

it("a Redis so slow that a round would take more than three seconds counts as one that does not answer", async () => {
  const prefix = newPrefix();
  let calls = 0;
  const slow: RedisClient = {
    eval: (...call) => {
      calls++;
      a.clock.now += 500;
      return redis.eval(...(call as Parameters<Redis["eval"]>));
    }
  };
  const a = contender(prefix, "a", { partitions: 64 }, slow);
  await a.leases.renew();
  expect([a.leases.mode, a.held(), calls]).toEqual(["unlocked", [], 6]);
});

it("one shard of a Redis cluster is down: after a lease without a whole round all is swept, unlocked", async () => {
  let down: string | undefined;
  const client: RedisClient = {
    eval: (...call) =>
      down !== undefined && call[2] === down
        ? Promise.reject(new Error("CLUSTERDOWN The cluster is down"))
        : redis.eval(...(call as Parameters<Redis["eval"]>))
  };
  const prefix = newPrefix();
  const a = contender(prefix, "a", { partitions: 2 }, client);
  await a.leases.renew();
  expect(a.held()).toEqual([0, 1]);
  // The one that is renewed last.
  down = leaseKey(prefix, [...a.leases.held().keys()].at(-1));
  for (let round = 0; round < 4; round++) {
    a.clock.now += 20_000;
    await a.leases.renew();
  }
  expect([a.leases.mode, a.held()]).toEqual(["unlocked", []]);
  down = undefined;
  await a.leases.renew();
  expect([a.leases.mode, a.held()]).toEqual(["held", [0, 1]]);
});
