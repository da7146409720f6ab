// What a message costs in all, what pruning costs beside a load, and what the default options cost.
import { serverPids } from "./lib/servers.mjs";
import { inTurn } from "./lib/side.mjs";
import { SHORT_CHECKS_MS } from "./lib/world.mjs";

const BYTES = 512;
const IDLE_MS = 4000;
const rate = (value, unit) => ({ value, unit });

const total = cost => Object.values(cost).reduce((sum, micros) => sum + micros, 0);

export const cpu = {
  id: "P13",
  note: "CPU time of all processes (Node.js, RabbitMQ, PostgreSQL, its gateway) from the first of 10,000 emits to the last `consumed` one, 1000 at a time, prefetch 500, without what these processes take while nothing is asked of them (measured for 4 s just before, on the same node), against publish, consume and ack by plain amqplib (of Node.js and RabbitMQ, since it uses no store). `callback` with its check: until each message's check has come, after 8 s here, and all queues of checks are empty. Only against servers of test/servers/servers, whose processes it reads; they should serve nothing else meanwhile. Part by part: `npm run bench:parts`.",
  prepare: () => ({ pids: serverPids() }),
  async round({ round, run, quick, pids }) {
    const counts = quick ? { count: 1000, warm: 200 } : { count: 10_000, warm: 2000 };
    const load = { bytes: BYTES, prefetch: 500, pids, idleMs: IDLE_MS, ...counts };
    const ours = more => run("ours.pipeline", { ...load, concurrency: 1000, ...more });
    const { raw, byHand, outbox, checked } = await inTurn(round, {
      // It uses no store: what the store does by itself meanwhile is none of its cost.
      raw: () => run("raw.pipeline", { ...load, window: 1000, pids: { RabbitMQ: pids.RabbitMQ } }),
      byHand: () => run("byhand.pipeline", { ...load, concurrency: 1000 }),
      outbox: () => ours({ strategy: "outbox" }),
      checked: () => ours({ strategy: "callback", checked: true, options: { checkDelaysMs: SHORT_CHECKS_MS } })
    });
    const line = (what, { cost }, target) => ({
      what: `CPU of a message in all, ${what} ÷ published, consumed, acked`,
      ours: rate(total(cost), "µs"),
      theirs: rate(total(raw.cost), "µs"),
      ratio: total(cost) / total(raw.cost),
      target
    });
    return [
      line("the steps of `outbox` by hand", byHand),
      line("`outbox`", outbox, { atMost: 2.4, aim: 1.8 }),
      line("`callback` with its check", checked, { atMost: 3.2, aim: 2.4 })
    ];
  }
};

export const pruning = {
  id: "P14",
  note: "a node that prunes finished messages of 8 days ago while it emits, handles and records half of what it sustains, for 15 s; against the same with as many finished ones that are not old enough. Sustainable: recorded per second with 200 waiting callers on the very node, before. Removed: rows of messages (their inbox rows, as many as this node makes, go with them and are not counted), from the first page until none is left or the load ends. p99: from the instant an emit was due until its handler ran.",
  async round({ run, quick }) {
    const size = quick ? { count: 1000, ms: 2000 } : { count: 10_000, ms: 15_000 };
    const load = { bytes: BYTES, concurrency: 200, ...size };
    const without = await run("prune.without", { ...load, oldTimes: 4 });
    const { sustainable, inboxShare, old } = without;
    const beside = await run("prune.beside", { ...load, sustainable, inboxShare, old });
    return [
      {
        what: "finished rows removed ÷ sustainable emits, beside half of these",
        ours: rate(beside.removedPerSecond, "/s"),
        theirs: rate(sustainable, "/s"),
        ratio: beside.removedPerSecond / sustainable,
        target: { atLeast: 2 }
      },
      {
        what: "p99 of emit → handler, with pruning ÷ without",
        ours: rate(beside.p99, "ms"),
        theirs: rate(without.p99, "ms"),
        ratio: beside.p99 / without.p99,
        target: { atMost: 1.3 }
      }
    ];
  }
};

export const defaults = {
  id: "P15",
  note: "from the first of 10,000 emits to the last message that is `consumed` in the store, `outbox`, one process, one group, 200 waiting callers; all options as by default (`maxInFlight` 50, inbox), against the same with one of them changed.",
  async round({ round, run, quick }) {
    const load = { bytes: BYTES, strategy: "outbox", concurrency: 200 };
    const counts = quick ? { count: 1000, warm: 200 } : { count: 10_000, warm: 1000 };
    const ours = (more = {}) => run("ours.pipeline", { ...load, ...counts, ...more });
    const { plain, bare, wide } = await inTurn(round, {
      bare: () => ours({ options: { inbox: false } }),
      plain: () => ours(),
      wide: () => ours({ prefetch: 1000 })
    });
    const line = (what, of, atLeast) => ({
      what: `default options ÷ ${what}: recorded, 200 callers`,
      ours: rate(plain.perSecond, "/s"),
      theirs: rate(of.perSecond, "/s"),
      ratio: plain.perSecond / of.perSecond,
      target: { atLeast, aim: 0.95 }
    });
    return [line("`inbox: false`", bare, 0.8), line("`maxInFlight: 1000`", wide, 0.85)];
  }
};
