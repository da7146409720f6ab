import { expect, it } from "vitest";
import { BREAKER, Breaker } from "../../src/consumer/breaker";
import { excuse, judgeFailure } from "../../src/message/attempts";
import { backoffMs } from "../../src/message/backoff";
import type { Message } from "../../src/message/message";
import { messageOf } from "../support/messages";

/**
 * A group of several nodes in virtual time: the breaker and the arithmetic of attempts are the product's, the queue, the
 * sweep and the clock are not. What holds for every seed is what the design says of breakers.
 */
interface World {
  nodes: number;
  messages: number;
  /** One in so many always fails. */
  poisonEvery?: number;
  /** The first ones always fail. */
  poisonFirst?: number;
  /** What succeeds takes up to so many ms; what fails, 20. */
  goodMs?: number;
  /** A message comes every so many ms. */
  everyMs: number;
  /** Until then every handler fails. */
  outage?: [fromMs: number, toMs: number];
  /** A node that begins anew every so many ms. */
  restartEveryMs?: number;
  maxAttempts?: number;
}

interface Ended {
  dead: number[];
  handled: number;
  /** By message: attempts that have counted. */
  counted: number[];
  calls: number;
  /** So often a dead message came back to life. */
  revived: number;
  lastMs: number;
}

const OPTIONS = { failures: 10, pauseMs: 1000, maxPauseMs: 30_000, patienceMs: 0 };
const HOUR = 3_600_000;
const error = { name: "Error", message: "boom" };

function randomOf(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}

class Row {
  message: Message;
  state: "waiting" | "handled" | "dead" = "waiting";
  constructor(
    readonly n: number,
    readonly poison: boolean,
    maxAttempts: number
  ) {
    const backoff = { initialMs: 1000, maxMs: 300_000, jitter: "half" as const };
    this.message = messageOf({ _id: `m${n}`, maxAttempts, backoff });
  }

  get spent(): number {
    return this.message.spent.stock ?? 0;
  }

  get base(): number {
    return this.message.base.stock ?? 0;
  }
}

function simulate(world: World, seed: number): Ended {
  const random = randomOf(seed);
  const {
    nodes,
    messages,
    poisonEvery,
    poisonFirst = 0,
    goodMs = 20,
    everyMs,
    outage = [0, 0],
    restartEveryMs,
    maxAttempts = 3
  } = world;
  const events: { at: number; run(): void }[] = [];
  let now = 0;
  let calls = 0;
  let revived = 0;
  let lastMs = 0;
  const later = (ms: number, run: () => void) => {
    const event = { at: now + ms, run };
    let i = events.length;
    while (i > 0 && (events[i - 1] as { at: number }).at < event.at) i--;
    events.splice(i, 0, event);
  };
  const queue: Row[] = [];
  const rows = Array.from(
    { length: messages },
    (_, n) => new Row(n, n < poisonFirst || (poisonEvery !== undefined && n % poisonEvery === 0), maxAttempts)
  );
  const all = Array.from({ length: nodes }, () => ({ breaker: new Breaker<Row>(OPTIONS, 50), held: new Set<Row>() }));

  const publish = (row: Row) => {
    if (row.state !== "waiting") return;
    queue.push(row);
    deliver();
  };
  const follow = (node: (typeof all)[number], before: string) => {
    const { breaker } = node;
    if (breaker.state === before) return;
    const { era, state } = breaker;
    const again = () => {
      if (node.breaker !== breaker || breaker.era !== era || breaker.state !== state) return;
      breaker.elapsed();
      follow(node, state);
      deliver();
    };
    if (state === BREAKER.open)
      later(backoffMs({ initialMs: 1000, maxMs: 30_000, jitter: "half" }, breaker.openings), again);
    if (state === BREAKER.trial) later(OPTIONS.maxPauseMs, again);
  };
  const deliver = () => {
    for (let moved = true; moved && queue.length; ) {
      moved = false;
      for (const node of all) {
        if (!queue.length || node.held.size >= node.breaker.limit) continue;
        const row = queue.shift() as Row;
        node.held.add(row);
        moved = true;
        const { breaker } = node;
        const era = breaker.begin();
        const attempt = row.spent + 1;
        const tookMs = 1 + random() * (row.poison ? 20 : goodMs);
        later(tookMs, () => end(node, breaker, row, era, attempt, tookMs));
      }
    }
  };
  const end = (
    node: (typeof all)[number],
    breaker: Breaker<Row>,
    row: Row,
    era: number,
    attempt: number,
    tookMs: number
  ) => {
    node.held.delete(row);
    // Of a process that has died: it is delivered again.
    if (node.breaker !== breaker) return publish(row);
    breaker.ended(era);
    calls++;
    lastMs = now;
    const { message } = row;
    const before = breaker.state;
    const away = now >= outage[0] && now < outage[1];
    if (!away && !row.poison) {
      row.state = "handled";
      breaker.succeeded(message._id, era);
    } else {
      const fresh = attempt - 1 - row.base === 0;
      const { excused, givenBack } = breaker.failed({ id: message._id, fresh, era, at: now, tookMs, answer: row });
      const facts = { now: new Date(now) };
      const told = excused
        ? excuse(message, "stock", attempt, error, { ...facts, all: false })
        : judgeFailure(message, "stock", attempt, "handler", error, facts);
      message.spent.stock = attempt;
      message.failures = [...message.failures, told.failure].slice(-20);
      if (excused) message.base.stock = row.base + 1;
      if (told.nextAt) later(told.nextAt.getTime() - now, () => publish(row));
      else row.state = "dead";
      for (const other of givenBack) {
        if (other.state === "handled") continue;
        other.message.base.stock = other.spent;
        if (other.state === "dead") {
          other.state = "waiting";
          revived++;
          later(1000, () => publish(other));
        }
      }
    }
    follow(node, before);
    deliver();
  };
  for (const row of rows) later(row.n * everyMs, () => publish(row));
  if (restartEveryMs)
    for (let at = restartEveryMs; at < outage[1]; at += restartEveryMs)
      later(at, () => {
        for (const node of all) {
          node.breaker = new Breaker<Row>(OPTIONS, 50);
          node.held.clear();
        }
        deliver();
      });
  for (let event = events.pop(); event && event.at < 24 * HOUR; event = events.pop()) {
    now = event.at;
    event.run();
  }
  return {
    dead: rows.filter(({ state }) => state === "dead").map(({ n }) => n),
    handled: rows.filter(({ state }) => state === "handled").length,
    counted: rows.map(row => row.spent - row.base),
    calls,
    revived,
    lastMs
  };
}

const SEEDS = [1, 2, 3, 4, 5];
const MINUTE = 60_000;

it.each(SEEDS)("an outage of ten minutes kills nothing (seed %i)", seed => {
  const { dead, handled, calls } = simulate(
    { nodes: 3, messages: 3000, everyMs: 20, outage: [10_000, 10 * MINUTE] },
    seed
  );
  expect(dead).toEqual([]);
  expect(handled).toBe(3000);
  // 50 in hand at each node when it begins, then one probe a pause.
  expect(calls - handled).toBeLessThan(3 * (50 + 10 + 40));
});

it.each(SEEDS)("nor does one with a single attempt, or with nodes that begin anew again and again (seed %i)", seed => {
  const outage: [number, number] = [0, 10 * MINUTE];
  expect(simulate({ nodes: 2, messages: 500, everyMs: 10, outage, maxAttempts: 1 }, seed).dead).toEqual([]);
  expect(simulate({ nodes: 2, messages: 60, everyMs: 1, outage, restartEveryMs: 20_000 }, seed)).toMatchObject({
    dead: [],
    handled: 60
  });
});

it.each(SEEDS)("of a stream exactly the poison is dead, with as many attempts as it has (seed %i)", seed => {
  for (const outage of [undefined, [10_000, 5 * MINUTE] as [number, number]]) {
    const { dead, handled, counted } = simulate(
      { nodes: 2, messages: 4000, everyMs: 5, poisonEvery: 100, ...(outage && { outage }) },
      seed
    );
    expect(dead).toEqual(Array.from({ length: 40 }, (_, i) => i * 100));
    expect(handled).toBe(3960);
    expect(dead.map(n => counted[n])).toEqual(dead.map(() => 3));
  }
});

it.each(SEEDS)("poison that is refused at once beside handlers that take a second opens nothing (seed %i)", seed => {
  const { dead, handled, counted, lastMs } = simulate(
    { nodes: 1, messages: 1600, everyMs: 0, poisonEvery: 4, goodMs: 1000 },
    seed
  );
  expect([dead.length, handled]).toEqual([400, 1200]);
  expect(dead.map(n => counted[n])).toEqual(dead.map(() => 3));
  // As long as 50 at a time take, and the last attempts of the last ones.
  expect(lastMs).toBeLessThan(30_000);
});

it.each(SEEDS)("nor does it hold up what an outage has left, with one poison in eight (seed %i)", seed => {
  const { dead, handled, lastMs } = simulate(
    { nodes: 2, messages: 4000, everyMs: 5, poisonEvery: 8, outage: [5000, MINUTE] },
    seed
  );
  expect([dead.length, handled]).toEqual([500, 3500]);
  expect(lastMs).toBeLessThan(3 * MINUTE);
});

it.each(SEEDS)("fewer different ones than open it are dead after their tries, within seconds (seed %i)", seed => {
  const { dead, lastMs, calls } = simulate({ nodes: 1, messages: 9, everyMs: 1, poisonEvery: 1 }, seed);
  expect(dead).toHaveLength(9);
  expect(calls).toBe(27);
  expect(lastMs).toBeLessThan(5000);
});

it.each(SEEDS)("poison that comes slowly is dead, and stays so (seed %i)", seed => {
  // Not ten within a minute: an outage of such a group is for `patienceMs`.
  const slow = simulate({ nodes: 1, messages: 40, everyMs: 10_000, poisonEvery: 1 }, seed);
  expect([slow.dead.length, slow.calls, slow.revived]).toEqual([40, 120, 0]);
  const outage: [number, number] = [0, 10 * MINUTE];
  expect(simulate({ nodes: 1, messages: 60, everyMs: 10_000, outage }, seed).dead.length).toBeGreaterThan(50);
  // Ten within it are an outage.
  expect(simulate({ nodes: 1, messages: 120, everyMs: 5000, outage }, seed).dead).toEqual([]);
});

it.each(SEEDS)("every second message is poison: it holds nobody up (seed %i)", seed => {
  const { handled, dead, lastMs } = simulate({ nodes: 1, messages: 60, everyMs: 500, poisonEvery: 2 }, seed);
  expect(handled).toBe(30);
  expect(dead).toHaveLength(30);
  expect(lastMs).toBeLessThan(40_000);
});

it.each(SEEDS)(
  "poison in a row is taken for an outage; while others go on succeeding it dies all the same (seed %i)",
  seed => {
    const { handled, dead } = simulate({ nodes: 1, messages: 1030, everyMs: 500, poisonFirst: 30 }, seed);
    expect(handled).toBe(1000);
    expect(dead).toEqual(Array.from({ length: 30 }, (_, n) => n));
  }
);
