// The rows of the table: what each measures, against what, and what it must reach. `round` returns a sample per line.
import { inTurn } from "./lib/side.mjs";
import { cpu, defaults, pruning } from "./rows-cost.mjs";
import { overloaded } from "./rows-overload.mjs";
import { peers } from "./rows-peers.mjs";
import { backlog, memory, partitions, sweeping } from "./rows-sweep.mjs";

const BYTES = 512;
const warm = quick => (quick ? { warmMs: 200, ms: 500 } : { warmMs: 2000, ms: 5000 });

const rate = (value, unit) => ({ value, unit });

export const rows = [
  {
    id: "P1",
    note: "emits of strategy `callback` (check and message: two publishes) against publishes by plain amqplib, both with 1000 at a time; nobody consumes. Two publishes by amqplib: 1000 times the same check and message, into the same kinds of queues, with the same headers (`checkedEmits` in `bench/sides/byhand.mjs`).",
    async round({ round, run, quick }) {
      const { ours, raw, byHand } = await inTurn(round, {
        raw: () => run("raw.publish", { bytes: BYTES, window: 1000, ...warm(quick) }),
        byHand: () => run("byhand.checkedEmits", { bytes: BYTES, concurrency: 1000, ...warm(quick) }),
        ours: () => run("ours.emits", { bytes: BYTES, strategy: "callback", concurrency: 1000, ...warm(quick) })
      });
      return [
        {
          what: "`callback` emits ÷ amqplib's confirmed publishes",
          ours: rate(ours.perSecond, "/s"),
          theirs: rate(raw.perSecond, "/s"),
          ratio: ours.perSecond / raw.perSecond,
          target: { atLeast: 0.65, aim: 0.8 }
        },
        {
          what: "its two publishes by amqplib ÷ one: nobody could do better here",
          ours: rate(byHand.perSecond, "/s"),
          theirs: rate(raw.perSecond, "/s"),
          ratio: byHand.perSecond / raw.perSecond
        },
        {
          what: "the same in CPU time of the process, µs each",
          ours: rate(ours.cpuMicros, "µs"),
          theirs: rate(raw.cpuMicros, "µs"),
          ratio: ours.cpuMicros / raw.cpuMicros
        }
      ];
    }
  },
  {
    id: "P2",
    note: "emits of strategy `outbox` with 1000 at a time, publishes and status writes included, against `insertMany` of batches of 500, two at a time, and nothing else; of our very documents with our indexes, and of the least a hand-written outbox would keep (body, status, date, one index). The rows alone: the same two against each other, inserted, and closed by the last receipt. With a requestID and two keys each row is in two more indexes.",
    async round({ round, run, quick }) {
      const insert = { bytes: BYTES, batch: 500, parallel: 2, ...warm(quick) };
      const close = { bytes: BYTES, batch: 500, parallel: 2, batches: quick ? 4 : 80 };
      const { ours, same, searched, plain, byHand, closed, closedPlain } = await inTurn(round, {
        byHand: () => run("byhand.emits", { bytes: BYTES, concurrency: 1000, ...warm(quick) }),
        same: () => run("raw.insertMany", { ...insert, rows: "ours" }),
        searched: () => run("raw.insertMany", { ...insert, rows: "searched" }),
        ours: () => run("ours.emits", { bytes: BYTES, strategy: "outbox", concurrency: 1000, ...warm(quick) }),
        plain: () => run("raw.insertMany", { ...insert, rows: "plain" }),
        closed: () => run("raw.closing", { ...close, rows: "ours" }),
        closedPlain: () => run("raw.closing", { ...close, rows: "plain" })
      });
      return [
        {
          what: "`outbox` emits ÷ `insertMany` of the same documents",
          ours: rate(ours.perSecond, "/s"),
          theirs: rate(same.perSecond, "/s"),
          ratio: ours.perSecond / same.perSecond
        },
        {
          what: "insert and publish by hand ÷ `insertMany`: nobody could do better here",
          ours: rate(byHand.perSecond, "/s"),
          theirs: rate(same.perSecond, "/s"),
          ratio: byHand.perSecond / same.perSecond
        },
        {
          what: "`outbox` emits ÷ insert and publish by hand",
          ours: rate(ours.perSecond, "/s"),
          theirs: rate(byHand.perSecond, "/s"),
          ratio: ours.perSecond / byHand.perSecond
        },
        {
          what: "`insertMany` of our rows ÷ of plain rows",
          ours: rate(same.perSecond, "/s"),
          theirs: rate(plain.perSecond, "/s"),
          ratio: same.perSecond / plain.perSecond,
          target: { atLeast: 0.7, aim: 0.8 }
        },
        {
          what: "the same with a requestID and two keys ÷ without",
          ours: rate(searched.perSecond, "/s"),
          theirs: rate(same.perSecond, "/s"),
          ratio: searched.perSecond / same.perSecond
        },
        {
          what: "closing updates of our rows ÷ of plain rows",
          ours: rate(closed.perSecond, "/s"),
          theirs: rate(closedPlain.perSecond, "/s"),
          ratio: closed.perSecond / closedPlain.perSecond,
          target: { atLeast: 0.7, aim: 0.8 }
        },
        {
          what: "`outbox` emits ÷ `insertMany` of plain rows",
          ours: rate(ours.perSecond, "/s"),
          theirs: rate(plain.perSecond, "/s"),
          ratio: ours.perSecond / plain.perSecond
        }
      ];
    }
  },
  {
    id: "P3",
    note: "from the first emit to the last message that is `consumed` in the store, against publish, consume and ack by plain amqplib without any record; one process each, 1000 at a time, prefetch 500. By hand (`bench/sides/byhand.mjs`): the same inserts, publishes, looks and receipts in batches with nothing but amqplib and the driver; no sweeper, no groups, no errors. What it does not reach, nobody does on these servers and cores.",
    async round({ round, run, quick }) {
      const counts = quick ? { count: 1000, warm: 200 } : { count: 10_000, warm: 1000 };
      const { ours, callback, raw, byHand } = await inTurn(round, {
        byHand: () => run("byhand.pipeline", { bytes: BYTES, concurrency: 1000, prefetch: 500, ...counts }),
        raw: () => run("raw.pipeline", { bytes: BYTES, window: 1000, prefetch: 500, ...counts }),
        ours: () =>
          run("ours.pipeline", { bytes: BYTES, strategy: "outbox", concurrency: 1000, prefetch: 500, ...counts }),
        callback: () =>
          run("ours.pipeline", { bytes: BYTES, strategy: "callback", concurrency: 1000, prefetch: 500, ...counts })
      });
      return [
        {
          what: "`outbox`: consumed and recorded ÷ published, consumed, acked",
          ours: rate(ours.perSecond, "/s"),
          theirs: rate(raw.perSecond, "/s"),
          ratio: ours.perSecond / raw.perSecond,
          target: { atLeast: 0.42, aim: 0.6 }
        },
        {
          what: "the same steps by hand ÷ published, consumed, acked: nobody could do better here",
          ours: rate(byHand.perSecond, "/s"),
          theirs: rate(raw.perSecond, "/s"),
          ratio: byHand.perSecond / raw.perSecond
        },
        {
          what: "`outbox` ÷ the same steps by hand",
          ours: rate(ours.perSecond, "/s"),
          theirs: rate(byHand.perSecond, "/s"),
          ratio: ours.perSecond / byHand.perSecond
        },
        {
          what: "`callback`: consumed and recorded ÷ published, consumed, acked",
          ours: rate(callback.perSecond, "/s"),
          theirs: rate(raw.perSecond, "/s"),
          ratio: callback.perSecond / raw.perSecond,
          target: { atLeast: 0.4, aim: 0.6 }
        }
      ];
    }
  },
  {
    id: "P4",
    note: "one message at a time, everything at rest before the next, after 500 others on both sides; against one `insertOne` and then one publish, until the consumer has it. The inbox asks the store before the handler, which the peer does not; strategy `callback` stores nothing before the handler but for that.",
    async round({ round, run, quick }) {
      const load = { bytes: BYTES, count: quick ? 20 : 200, warm: quick ? 20 : 500, pauseMs: 20 };
      const { ours, bare, callback, raw, asking } = await inTurn(round, {
        raw: () => run("raw.latency", load),
        asking: () => run("raw.latency", { ...load, lookup: true }),
        ours: () => run("ours.latency", { ...load, strategy: "outbox" }),
        bare: () => run("ours.latency", { ...load, strategy: "outbox", options: { inbox: false } }),
        callback: () => run("ours.latency", { ...load, strategy: "callback" })
      });
      const line = (p, what, of) => ({
        what: `emit → handler, idle, ${p}${what}`,
        ours: rate(of[p], "ms"),
        theirs: rate(raw[p], "ms"),
        ratio: of[p] / raw[p],
        target: { atMost: 1.3 }
      });
      const byHand = p => ({
        what: `emit → handler, idle, ${p}, \`outbox\` ÷ the same with a look into an inbox by hand`,
        ours: rate(ours[p], "ms"),
        theirs: rate(asking[p], "ms"),
        ratio: ours[p] / asking[p]
      });
      return ["p50", "p99"].flatMap(p => [
        line(p, ", `outbox`", ours),
        line(p, ", `outbox`, `inbox: false`", bare),
        line(p, ", `callback`", callback),
        byHand(p)
      ]);
    }
  },
  {
    id: "P5",
    note: "@moleculer/channels with its AMQP adapter, told to be as durable as it can be (quorum queue, persistent): no confirms, nothing stored. Both on Moleculer 0.14, which it asks for. As many messages between send and handler as `maxInFlight`; latency is the p50 of the same loop, after 10 s of it on every side. It has no inbox: with `inbox: false` ours does as little. Plain amqplib with a quorum queue and confirms is the least that any of them could take; by hand (`throughput` in `bench/sides/byhand.mjs`) with every step of ours. `BENCH_IN_FLIGHT=100` measures at 100 in flight alone.",
    async round({ round, run, quick }) {
      const load = inFlight => ({
        bytes: BYTES,
        inFlight,
        ...(quick ? warm(quick) : { warmMs: inFlight === 1 ? 10_000 : 3000, ms: 3000 })
      });
      const line = { line: "0.14" };
      const samples = [];
      const inFlights = process.env.BENCH_IN_FLIGHT?.split(",").map(Number) ?? (quick ? [1] : [1, 10, 100]);
      const alone = { count: quick ? 20 : 300, warm: quick ? 20 : 2000, pauseMs: 0, insert: false };
      const plain = inFlights.includes(1) ? await run("raw.latency", { bytes: BYTES, ...alone }) : undefined;
      for (const inFlight of inFlights) {
        const bare = { options: { inbox: false } };
        const byHand = (strategy, inbox) => run("byhand.throughput", { ...load(inFlight), strategy, inbox });
        const { theirs, ...others } = await inTurn(round, {
          theirs: () => run("channels.throughput", load(inFlight), line),
          "the steps of `outbox` by hand": () => byHand("outbox", true),
          "the steps of `callback`, `inbox: false`, by hand": () => byHand("callback", false),
          "`outbox`": () => run("ours.throughput", { ...load(inFlight), strategy: "outbox" }, line),
          "`callback`": () => run("ours.throughput", { ...load(inFlight), strategy: "callback" }, line),
          "`outbox`, `inbox: false`": () =>
            run("ours.throughput", { ...load(inFlight), strategy: "outbox", ...bare }, line),
          "`callback`, `inbox: false`": () =>
            run("ours.throughput", { ...load(inFlight), strategy: "callback", ...bare }, line)
        });
        const latency = (what, { p50 }) => ({
          what: `channels ÷ ${what}: latency, 1 in flight`,
          ours: rate(p50, "ms"),
          theirs: rate(theirs.p50, "ms"),
          ratio: theirs.p50 / p50
        });
        if (inFlight === 1) samples.push(latency("plain amqplib (publish, confirm, consume; nothing stored)", plain));
        for (const [what, { perSecond, p50 }] of Object.entries(others)) {
          samples.push({
            what: `${what} ÷ channels: throughput, ${inFlight} in flight`,
            ours: rate(perSecond, "/s"),
            theirs: rate(theirs.perSecond, "/s"),
            ratio: perSecond / theirs.perSecond,
            target: inFlight === 100 && !what.includes("by hand") ? { atLeast: 0.45, aim: 1 } : undefined
          });
          if (inFlight === 1) samples.push(latency(what, { p50 }));
        }
      }
      return samples;
    }
  },
  sweeping,
  memory,
  backlog,
  {
    id: "P9",
    note: "commands sent to the store from the first emit to the last `consumed` message, per message, 1000 emits at a time, prefetch 500; with `callback` those of a node that only emits.",
    async round({ run, quick }) {
      const load = { bytes: BYTES, concurrency: 1000, prefetch: 500, count: quick ? 200 : 20_000 };
      const outbox = await run("ours.operations", { ...load, strategy: "outbox" });
      const callback = await run("ours.operations", { ...load, strategy: "callback", producerOnly: true });
      return [
        {
          what: "store commands per message, whole life, `outbox`",
          ratio: outbox.perMessage,
          target: { atMost: 0.03 }
        },
        {
          what: "store commands per message on the producer, `callback`",
          ratio: callback.perMessage,
          target: { atMost: 0 }
        }
      ];
    }
  },
  partitions,
  peers,
  cpu,
  pruning,
  defaults,
  overloaded
];
