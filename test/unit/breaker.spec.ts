import { describe, expect, it } from "vitest";
import { BREAKER, Breaker } from "../../src/consumer/breaker";
import { OPTIONS } from "../../src/options/options";

const OPTIONS_OF = { failures: 3, pauseMs: 1000, maxPauseMs: 30_000, patienceMs: 0 };

/** A breaker of a consumer that holds 50, and what its handlers do. */
function made(options: Partial<typeof OPTIONS_OF> = {}, full = 50) {
  const breaker = new Breaker<string>({ ...OPTIONS_OF, ...options }, full);
  let now = 0;
  const fail = (id: string, { fresh = true, era = breaker.era, answer = `answer ${id}`, tookMs = 0 } = {}) =>
    breaker.failed({ id, fresh, era, at: now, tookMs, answer });
  const open = () => {
    for (let i = 0; breaker.state !== BREAKER.open; i++) fail(`opener ${i}`);
  };
  return {
    breaker,
    fail,
    open,
    begin: (handlers = 1) => Array.from({ length: handlers }, () => breaker.begin()),
    succeed: (id = "good", era = breaker.era) => breaker.succeeded(id, era),
    pass: (ms: number) => void (now += ms)
  };
}

const counts = { excused: false, givenBack: [] };
const excused = { excused: true, givenBack: [] };

describe("a run of failures", () => {
  it("of different messages opens it, is excused, and what was told before is given back", () => {
    const { breaker, fail } = made();
    expect([fail("a"), fail("b"), breaker.limit]).toEqual([counts, counts, 50]);
    expect(fail("c")).toEqual({ excused: true, givenBack: ["answer a", "answer b"] });
    expect([breaker.state, breaker.limit, breaker.era, breaker.openings]).toEqual([BREAKER.open, 0, 1, 1]);
  });

  it("ends with a success", () => {
    const { breaker, fail, succeed } = made();
    for (const id of ["a", "b"]) fail(id);
    succeed();
    expect([fail("c"), fail("d"), breaker.state]).toEqual([counts, counts, BREAKER.closed]);
    expect(fail("e").givenBack).toEqual(["answer c", "answer d"]);
  });

  it("counts a message once, however often it fails; its last answer is given back", () => {
    const { fail } = made();
    fail("a");
    for (const answer of ["second", "third"]) expect(fail("a", { fresh: false, answer })).toEqual(counts);
    fail("b");
    expect(fail("c").givenBack).toEqual(["third", "answer b"]);
  });

  it("is none of messages that have failed while others succeeded", () => {
    const { breaker, fail } = made();
    for (let i = 0; i < 100; i++) expect(fail(`${i}`, { fresh: false })).toEqual(counts);
    expect(breaker.state).toBe(BREAKER.closed);
  });

  it("is not over before as many have failed as are still running: those may succeed", () => {
    const { breaker, begin, fail, succeed } = made();
    const eras = begin(10);
    for (const id of ["a", "b", "c"]) {
      breaker.ended(eras.pop() as number);
      expect(fail(id)).toEqual(counts);
    }
    breaker.ended(eras.pop() as number);
    succeed();
    for (const id of ["d", "e", "f"]) {
      breaker.ended(eras.pop() as number);
      expect([fail(id).excused, breaker.state]).toEqual(id === "f" ? [true, BREAKER.open] : [false, BREAKER.closed]);
    }
  });

  it("does not wait for handlers that hang since before it opened", () => {
    const { breaker, begin, fail, open, succeed } = made();
    const [hangs] = begin(40);
    for (let i = 0; i < 40; i++) fail(`${i}`);
    expect(breaker.state).toBe(BREAKER.open);
    breaker.elapsed();
    succeed();
    open();
    expect(breaker.openings).toBe(2);
    breaker.ended(hangs as number);
    breaker.elapsed();
    succeed();
    expect([fail("a").excused, fail("b").excused, fail("c").excused]).toEqual([false, false, true]);
  });

  it("is no longer than a minute: what failed before it neither counts nor is given back", () => {
    const { breaker, fail, pass } = made();
    fail("a");
    pass(59_999);
    fail("b");
    pass(2);
    expect([fail("c"), breaker.state]).toEqual([counts, BREAKER.closed]);
    pass(59_998);
    expect(fail("d")).toEqual({ excused: true, givenBack: ["answer b", "answer c"] });
  });

  it("goes on for a message that fails again within the minute, and not for one that fails later", () => {
    const { breaker, fail, pass } = made();
    fail("a");
    pass(40_000);
    expect(fail("a", { fresh: false })).toEqual(counts);
    pass(40_000);
    fail("b");
    expect(fail("c").givenBack).toEqual(["answer a", "answer b"]);
    breaker.elapsed();
    breaker.succeeded("good", breaker.era);
    breaker.elapsed();
    fail("d");
    pass(60_001);
    fail("d", { fresh: false });
    fail("e");
    expect([fail("f"), breaker.state]).toEqual([counts, BREAKER.closed]);
  });

  it("is longer by what the handlers take: one at a time that hangs for half a minute each time opens it too", () => {
    const { breaker, fail, pass } = made({ failures: 10 }, 1);
    for (let i = 0; i < 9; i++) {
      pass(30_000);
      expect(fail(`${i}`, { tookMs: 30_000 })).toEqual(counts);
    }
    pass(30_000);
    expect(fail("9", { tookMs: 30_000 }).givenBack).toHaveLength(9);
    expect(breaker.state).toBe(BREAKER.open);
  });

  it("of one is enough where the option says so, on trial too", () => {
    const { breaker, fail, succeed } = made({ failures: 1 });
    expect(fail("a")).toEqual(excused);
    breaker.elapsed();
    succeed();
    expect(fail("b")).toEqual(excused);
  });
});

describe("an open one", () => {
  it("excuses what was in hand, whatever comes of the probe meanwhile", () => {
    const { breaker, fail, open, succeed } = made();
    open();
    expect(fail("in hand", { era: 0 })).toEqual(excused);
    breaker.elapsed();
    expect(fail("in hand", { era: 0, fresh: false })).toEqual(excused);
    expect(breaker.state).toBe(BREAKER.probing);
    succeed("in hand", 0);
    expect(breaker.state).toBe(BREAKER.probing);
  });

  it("lets one through after its pause, and stays open when that fails", () => {
    const { breaker, fail, open } = made();
    open();
    breaker.elapsed();
    expect([breaker.state, breaker.limit]).toEqual([BREAKER.probing, 1]);
    expect(fail("probe", { fresh: false })).toEqual(excused);
    expect([breaker.state, breaker.limit, breaker.openings]).toEqual([BREAKER.open, 0, 2]);
  });

  it("lets a few through when the probe succeeds, and all when they do", () => {
    const { breaker, open, succeed } = made();
    open();
    breaker.elapsed();
    succeed();
    expect([breaker.state, breaker.limit]).toEqual([BREAKER.trial, 5]);
    for (let i = 0; i < 3; i++) succeed();
    expect([breaker.state, breaker.limit, breaker.openings]).toEqual([BREAKER.closed, 50, 0]);
  });

  it("never lets through more than the consumer may hold", () => {
    const { breaker, open, succeed } = made({}, 2);
    open();
    breaker.elapsed();
    succeed();
    expect(breaker.limit).toBe(2);
  });

  it("closes when the trial was long enough: nothing may come for hours", () => {
    const { breaker, open, succeed } = made();
    open();
    breaker.elapsed();
    succeed();
    breaker.elapsed();
    expect(breaker.state).toBe(BREAKER.closed);
    breaker.elapsed();
    expect(breaker.state).toBe(BREAKER.closed);
  });
});

describe("on trial", () => {
  const onTrial = () => {
    const it = made({ failures: 10 });
    it.open();
    it.breaker.elapsed();
    it.succeed();
    return it;
  };

  it("three different failures in a row open it again, and none of them counts", () => {
    const { breaker, fail } = onTrial();
    expect([fail("a"), fail("b")]).toEqual([counts, counts]);
    expect(fail("c")).toEqual({ excused: true, givenBack: ["answer a", "answer b"] });
    expect([breaker.state, breaker.openings]).toEqual([BREAKER.open, 2]);
  });

  it("poison among those that succeed counts, and does not open it", () => {
    const { breaker, fail, succeed } = onTrial();
    for (const id of ["a", "b"]) expect(fail(id)).toEqual(counts);
    succeed();
    expect(fail("a", { fresh: false })).toEqual(counts);
    expect(breaker.state).toBe(BREAKER.trial);
  });
});

describe("patience", () => {
  it("excuses for so long after a message's first failure, and counts it in the run", () => {
    const { breaker, fail, pass } = made({ patienceMs: 1000 });
    expect(fail("a")).toEqual(excused);
    pass(999);
    expect(fail("a")).toEqual(excused);
    pass(1);
    expect(fail("a")).toEqual(counts);
    fail("b");
    expect(fail("c").excused).toBe(true);
    expect(breaker.state).toBe(BREAKER.open);
  });

  it("begins anew for a message that was handled, and forgets the oldest of too many", () => {
    const { fail, pass, succeed } = made({ patienceMs: 1000 });
    fail("a", { fresh: false });
    succeed("a");
    pass(1000);
    expect(fail("a", { fresh: false })).toEqual(excused);
    for (let i = 0; i < 10_000; i++) fail(`${i}`, { fresh: false });
    pass(1000);
    expect(fail("9999", { fresh: false })).toEqual(counts);
    expect(fail("a", { fresh: false })).toEqual(excused);
  });
});

it("is on by default, at ten", () => {
  expect(OPTIONS.breaker.default).toEqual({ failures: 10, pauseMs: 1000, maxPauseMs: 30_000, patienceMs: 0 });
});
