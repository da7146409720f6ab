import { expect, it } from "vitest";
import { type AdmissionState, LOOK_MS, OPEN, step } from "../../src/emit/admission-limit";

/**
 * A node in virtual time, in the way that collapses: emits are taken before deliveries, and both use up the same
 * processor. The limit is the product's; the gate around it is the least that can be one.
 */
interface World {
  seed: number;
  /** Emits per second, of what the node can finish in all; by the ms that have passed. */
  load?(ms: number): number;
  /** In its place: so many, each of whom waits until its message is handled. */
  callers?: number;
  ms: number;
  /** Messages per second that it can take from the emit to the end of the handler. */
  capacity?: number;
  /** The processor is away for so long at the begin of each second. */
  pauseMs?: number;
  /** The processor is away for this second as a whole. */
  awaySecond?: number;
  /** Until then nobody handles what is emitted; it waits in its queue. */
  awayUntilMs?: number;
  gate?: boolean;
}

interface Second {
  handled: number;
  stored: number;
  refused: number;
  waiting: number;
  rate: number | undefined;
  /** The greatest age of what came to a handler. */
  oldestMs: number;
}

const LIMITS = { targetMs: 500, minPerSecond: 50 };
const WAIT_MS = 500;
const MIN_WAITING = 1000;
const STEP_MS = 10;
/** Of a message's cost: until it is stored. */
const EMIT_PART = 0.4;

function randomOf(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}

/** First in, first out; the instants of what came. */
class Line {
  readonly #at: number[] = [];
  #head = 0;
  get length(): number {
    return this.#at.length - this.#head;
  }
  get oldest(): number | undefined {
    return this.#at[this.#head];
  }
  push(at: number): void {
    this.#at.push(at);
  }
  shift(): number {
    return this.#at[this.#head++] as number;
  }
}

function play({
  seed,
  load = () => 0,
  ms,
  capacity = 2000,
  pauseMs = 0,
  awaySecond,
  awayUntilMs = 0,
  gate = true,
  callers
}: World): Second[] {
  const random = randomOf(seed);
  const [gated, unstored, queue] = [new Line(), new Line(), new Line()];
  const seconds: Second[] = [];
  let state: AdmissionState = OPEN;
  let [tokens, due, budget] = [0, 0, 0];
  const fresh = () => ({ stored: 0, handled: 0, least: Infinity, longest: 0 });
  let seen = fresh();
  for (let now = 0; now < ms; now += STEP_MS) {
    if (now % 1000 === 0)
      seconds.push({ handled: 0, stored: 0, refused: 0, waiting: 0, rate: state.rate, oldestMs: 0 });
    const second = seconds.at(-1) as Second;
    const { rate } = state;
    tokens = Math.min(Math.max(1, (rate ?? 0) * 0.1), tokens + ((rate ?? 0) * STEP_MS) / 1000);
    if (callers) due = callers - gated.length - unstored.length - queue.length;
    else due += ((load(now) * capacity * STEP_MS) / 1000) * (0.5 + random());
    for (; due >= 1; due--) {
      if (rate !== undefined && gated.length >= Math.max(MIN_WAITING, (rate * WAIT_MS) / 1000)) second.refused++;
      else gated.push(now);
    }
    while (gated.length && (rate === undefined || tokens >= 1)) {
      if (rate !== undefined) tokens--;
      gated.shift();
      unstored.push(now);
    }
    second.waiting = Math.max(second.waiting, gated.length);
    const away = now % 1000 < pauseMs || Math.floor(now / 1000) === awaySecond;
    budget = away ? 0 : Math.min(1, budget) + ((capacity * STEP_MS) / 1000) * (0.5 + random());
    for (; unstored.length && budget >= EMIT_PART; budget -= EMIT_PART) {
      const at = unstored.shift();
      seen.longest = Math.max(seen.longest, now - at);
      seen.stored++;
      second.stored++;
      queue.push(at);
    }
    for (; now >= awayUntilMs && queue.length && budget >= 1 - EMIT_PART; budget -= 1 - EMIT_PART) {
      const age = now - queue.shift();
      seen.least = Math.min(seen.least, age);
      second.oldestMs = Math.max(second.oldestMs, age);
      seen.handled++;
      second.handled++;
    }
    if (now % LOOK_MS !== LOOK_MS - STEP_MS || !gate) continue;
    const { stored, handled, least, longest } = seen;
    // As the product has it: what does not come at all counts, and what is very old has waited for something else.
    const starved = least === Infinity && now >= awayUntilMs && queue.oldest !== undefined;
    const age = starved ? now - (queue.oldest as number) : least;
    const late = {
      loop: pauseMs && now % 1000 < pauseMs + LOOK_MS ? pauseMs : 0,
      store: Math.max(longest, unstored.oldest === undefined ? 0 : now - unstored.oldest),
      broker: 0,
      handlers: age > 10_000 ? 0 : age
    };
    const waiting = gated.length;
    const sample = { ms: LOOK_MS, waiting, stored, handled: starved ? 0 : handled || undefined, late, share: 1 };
    state = step(state, sample, LIMITS);
    seen = fresh();
  }
  return seconds;
}

const SEEDS = [1, 2, 3, 5];
const mean = (seconds: Second[], of: "handled" | "refused" | "stored") =>
  seconds.reduce((sum, second) => sum + second[of], 0) / seconds.length;

it("collapses without the limit, so that there is something to hold", () => {
  const seconds = play({ seed: 1, load: () => 2, ms: 30_000, gate: false });
  expect(mean(seconds.slice(3), "handled")).toBeLessThan(0.5 * 2000);
});

it.each([1.5, 2, 4, 10])("A1: at %s times what it can do it finishes nine tenths of that after 3 s", times => {
  for (const seed of SEEDS) {
    const seconds = play({ seed, load: () => times, ms: 60_000 });
    expect(mean(seconds.slice(3), "handled"), `seed ${seed}`).toBeGreaterThan(0.9 * 2000);
    const oldest = seconds.slice(times > 4 ? 20 : times > 2 ? 10 : 5).map(({ oldestMs }) => oldestMs);
    expect(Math.max(...oldest), `seed ${seed}`).toBeLessThan(1500);
  }
});

it.each([0.5, 0.9])("A2: at %s of what it can do nothing is refused, whatever pauses there are", times => {
  for (const seed of SEEDS)
    for (const pauseMs of [0, 50]) {
      const seconds = play({ seed, load: () => times, ms: 30_000, pauseMs });
      expect(mean(seconds, "refused"), `seed ${seed}, pauses of ${pauseMs}`).toBe(0);
    }
  for (const seed of SEEDS)
    expect(mean(play({ seed, load: () => 0.7, ms: 30_000, pauseMs: 200 }), "refused"), `seed ${seed}`).toBe(0);
});

it("A3: when the load falls, all of it is finished within 5 s, and the limit is gone within 15", () => {
  for (const seed of SEEDS) {
    const seconds = play({ seed, load: ms => (ms < 20_000 ? 4 : 0.7), ms: 40_000 });
    const after = seconds.slice(25);
    expect(mean(after, "refused"), `seed ${seed}`).toBe(0);
    expect(mean(after, "handled"), `seed ${seed}`).toBeGreaterThan(0.9 * 0.7 * 2000);
    expect(
      seconds.slice(35).every(({ rate }) => rate === undefined),
      `seed ${seed}`
    ).toBe(true);
  }
});

it("A4: what is finished does not swing", () => {
  for (const seed of SEEDS) {
    const seconds = play({ seed, load: () => 2, ms: 60_000 }).slice(5);
    const sorted = seconds.map(({ handled }) => handled).toSorted((a, b) => a - b);
    const [low = 0, high = 0] = [sorted[2], sorted.at(-3)];
    expect(low / 2000, `seed ${seed}`).toBeGreaterThan(0.85);
    expect(high / 2000, `seed ${seed}`).toBeLessThan(1.15);
  }
});

it("A5: what waits is bounded", () => {
  for (const seed of SEEDS)
    for (const times of [2, 10])
      for (const { waiting } of play({ seed, load: () => times, ms: 30_000, capacity: 5000 }))
        expect(waiting, `seed ${seed}`).toBeLessThanOrEqual(0.5 * 5000 * 2);
});

it("what nobody handles for now holds nothing, nor does the backlog of it", () => {
  for (const seed of SEEDS) {
    const seconds = play({ seed, load: () => 0.5, ms: 90_000, awayUntilMs: 30_000 });
    expect(mean(seconds, "refused"), `seed ${seed}`).toBe(0);
  }
});

it("a node that becomes slower is followed, and one that becomes faster again too", () => {
  for (const seed of SEEDS) {
    const slow = play({ seed, load: () => 2, ms: 60_000, capacity: 300 });
    expect(mean(slow.slice(5), "handled"), `seed ${seed}`).toBeGreaterThan(0.9 * 300);
  }
});

it("callers that each wait are held while they are late, and no longer: their number bounds what is on its way", () => {
  for (const seed of SEEDS) {
    const seconds = play({ seed, callers: 1000, ms: 12_000, capacity: 4000, awaySecond: 3 });
    expect(
      seconds.slice(4, 6).some(({ rate }) => rate !== undefined),
      `seed ${seed}`
    ).toBe(true);
    expect(
      seconds.slice(8).every(({ rate }) => rate === undefined),
      `seed ${seed}`
    ).toBe(true);
    expect(mean(seconds.slice(6), "handled"), `seed ${seed}`).toBeGreaterThan(0.9 * 4000);
  }
});
