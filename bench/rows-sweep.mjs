// Rows about what runs in the background.
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { clean, newNamespace, urls } from "./lib/world.mjs";

const MEMORY = fileURLToPath(new URL("memory.mjs", import.meta.url));

const rate = (value, unit) => ({ value, unit });

export const sweeping = {
  id: "P6",
  note: "one sweep by hand over 1,000 due messages, in a store with 1,000,000 finished ones (or `BENCH_FINISHED`) and in an empty one.",
  async prepare({ quick, run }) {
    const namespaces = { full: newNamespace(), empty: newNamespace() };
    const finished = Number(process.env.BENCH_FINISHED ?? (quick ? 2000 : 1_000_000));
    const end = () => Promise.all(Object.values(namespaces).map(clean));
    try {
      await run("sweep.fill", { finished }, { namespace: namespaces.full, keep: true });
    } catch (error) {
      await end();
      throw error;
    }
    return { namespaces, finished, end };
  },
  async round({ round, run, namespaces, finished }) {
    const times = {};
    for (const name of round % 2 ? ["full", "empty"] : ["empty", "full"])
      times[name] = await run("sweep.once", { due: 1000 }, { namespace: namespaces[name], keep: true });
    const { full, empty } = times;
    return [
      {
        what: `a sweep of 1,000 due: ${finished.toLocaleString("en")} finished beside them ÷ none`,
        ours: rate(full.ms, "ms"),
        theirs: rate(empty.ms, "ms"),
        ratio: full.ms / empty.ms,
        target: { atMost: 1.1 }
      }
    ];
  }
};

export const memory = {
  id: "P7",
  note: "growth of a process that emits, consumes, tracks and sweeps, over 100,000 emits while RabbitMQ blocks (1000 at a time) and 20,000 of them drained, after full collections; `npm run bench:memory` does it with a million. On a RabbitMQ of its own, started with test/servers/servers (Debian, root). None = less than the warm-up's garbage that is given back.",
  async round({ quick }) {
    const { rss, heap } = await grown(quick ? ["2000", "500"] : ["100000", "20000"]);
    const line = (what, value, target) => ({
      what: `growth of ${what} over emits while RabbitMQ blocks, MiB`,
      ratio: value,
      target
    });
    return [line("the heap with buffers", heap, { atMost: 0 }), line("RSS", rss)];
  }
};

/** What bench/memory.mjs finds. */
function grown([messages, drain]) {
  const env = { ...process.env, MONGO_URL: urls.mongo, REDIS_URL: urls.redis };
  const stdio = ["ignore", "ignore", "inherit", "ipc"];
  const child = fork(MEMORY, ["--messages", messages, "--drain", drain], { execArgv: ["--expose-gc"], env, stdio });
  return new Promise((resolve, reject) => {
    let result;
    child.on("message", message => (result = message));
    child.on("error", reject);
    child.on("close", code => (result ? resolve(result) : reject(new Error(`bench/memory.mjs ended (${code}).`))));
  });
}

export const backlog = {
  id: "P8",
  note: "messages emitted while RabbitMQ could not be reached (100,000, or `BENCH_BACKLOG`), from the moment it can be until all are `consumed`, against a steady load of 1000 emits at a time on the same node before; one process, Redis lease, prefetch 500.",
  async round({ run, quick }) {
    const backlog = Number(process.env.BENCH_BACKLOG ?? (quick ? 2000 : 100_000));
    const { steady, drain } = await run("sweep.backlog", {
      bytes: 512,
      concurrency: 1000,
      prefetch: 500,
      steadyCount: backlog / 5,
      backlog
    });
    return [
      {
        what: `drain of a backlog of ${backlog.toLocaleString("en")} ÷ steady rate`,
        ours: rate(drain, "/s"),
        theirs: rate(steady, "/s"),
        ratio: drain / steady,
        target: { atLeast: 0.75, aim: 0.9 }
      }
    ];
  }
};

export const partitions = {
  id: "P10",
  note: "16,000 due messages (32 pages of 500) swept by 1, 2 and 4 nodes, each a process with a partition of its own; the ratio is to one node. Servers, nodes and all share two cores. An idle cluster: 8 nodes with a store, their leases held, counted over a minute by the driver and by Redis's MONITOR; 208 – 219 and 288 – 292 before issue 19, which says 219 and, by an older count, 92.",
  async prepare({ run, quick }) {
    return { cost: await run("sweep.idle", { nodes: 8, ms: quick ? 3000 : 60_000 }) };
  },
  async round({ run, quick, cost }) {
    const rates = {};
    for (const nodes of [1, 2, 4])
      rates[nodes] = (await run("sweep.partitioned", { nodes, due: quick ? 1000 : 16_000 })).pagesPerSecond;
    const line = nodes => ({
      what: `sweeping, ${nodes} partitions on ${nodes} nodes ÷ one`,
      ours: rate(rates[nodes], "pages/s"),
      theirs: rate(rates[1], "pages/s"),
      ratio: rates[nodes] / rates[1]
    });
    return [
      line(2),
      line(4),
      { what: "Redis commands per minute, idle cluster of 8", ratio: cost.redis, target: { atMost: 292 } },
      { what: "store commands per minute, idle cluster of 8", ratio: cost.store, target: { atMost: 219 } }
    ];
  }
};
