// npm run bench:simulate: where a cluster stops, from the measured costs of a message (bench/results.md).
//   npm run bench:simulate -- --strategy outbox --rate 20000 --producers 8 --queues 8 … shows one of your own.
// Without options it writes the section "Simulation" of bench/results.md. It needs no servers, and takes seconds.
import { parseArgs } from "node:util";
import { readSection, table, writeSection } from "./lib/results.mjs";

const DESIGN = { producers: 1, queues: 1, consumers: 1, namespaces: 1, trackers: 1, nodes: 3, nodeCores: 2 };
const DEFAULTS = { rate: 1000, ...DESIGN, shards: 1, shardCores: 2, handlerMs: 20 };
const DESIGNS = [
  {},
  { rate: 10_000, producers: 4, queues: 4, consumers: 4, namespaces: 2, trackers: 2, shardCores: 8 },
  {
    ...{ rate: 100_000, producers: 40, queues: 32, consumers: 40, namespaces: 16, trackers: 32 },
    ...{ nodes: 12, nodeCores: 4, shards: 4, shardCores: 16 }
  }
];

const { values: given } = parseArgs({
  options: {
    strategy: { type: "string" },
    ...Object.fromEntries(Object.keys(DEFAULTS).map(name => [name, { type: "string" }]))
  }
});

// ------------------------------------------------------------------------------------------------ measured

const rowsOf = heading =>
  readSection(heading)
    .split("\n")
    .filter(line => line.startsWith("| "))
    .map(line => line.slice(2, -2).split(" | "));
const number = text => Number(text.replaceAll(/[^\d.]/g, ""));

/** µs of CPU of a message by part: what an emit costs, and what each group adds. */
function costs() {
  const rows = new Map(rowsOf("## Cost of a message").map(([what, ...cells]) => [what, cells.map(number)]));
  const [parts, with3, checked] = ["`outbox`, 1 group", "`outbox`, 3 groups", "… and its check, which comes later"].map(
    what => {
      const [process, broker, store, gateway] = rows.get(what);
      return { process, broker, store: store + gateway };
    }
  );
  const group = Object.fromEntries(Object.keys(parts).map(part => [part, (with3[part] - parts[part]) / 2]));
  // A further group writes a row again that the first one closes at once: it is taken for no more than the whole.
  for (const part of Object.keys(group)) group[part] = Math.min(group[part], 0.6 * parts[part]);
  return { outbox: { all: parts, group }, callback: { all: checked, group } };
}

const COLUMNS = { ours: 2, peer: 3 };

function measured(id, what, column = "ours") {
  const found = rowsOf("## Ratios").find(([row, text]) => row === id && text.startsWith(what));
  if (!found) throw new Error(`bench/results.md has no row ${id} ${what}: run npm run bench first.`);
  return found[COLUMNS[column]];
}

const COSTS = costs();
/** Emit → handler when nothing else is under way. */
const IDLE_MS = number(measured("P4", "emit → handler, idle, p50, `outbox`"));
const PRUNED = number(measured("P14", "finished rows removed"));

// ------------------------------------------------------------------------------------------------ the model

/**
 * What works off a queue, first come first served: `cores` ms of work a ms. Of a process, a leader and a tracker that is
 * one: each runs on one core at a time.
 */
class Station {
  #queue = [];
  #head = 0;
  #left = 0;

  constructor(name, cores) {
    Object.assign(this, { name, cores });
  }

  add(item) {
    this.#queue.push(item);
  }

  /** What a ms has finished. */
  tick(done) {
    this.#left = this.cores;
    while (this.#head < this.#queue.length && this.#left > 0) {
      const item = this.#queue[this.#head];
      const take = Math.min(item.work, this.#left);
      item.work -= take;
      this.#left -= take;
      if (item.work > 1e-9) break;
      this.#head++;
      done(item);
    }
    if (this.#head > 1024) {
      this.#queue.splice(0, this.#head);
      this.#head = 0;
    }
  }
}

/** How the work of a message is divided: its emit, its way to the handler, and what is recorded of it. */
function pathOf(design, { all, group }) {
  const emit = part => all[part] - group[part];
  const many = (name, count, cores = 1) => Array.from({ length: count }, (_, i) => new Station(`${name}${i}`, cores));
  const stations = {
    producers: many("producer", design.producers),
    stores: many("shard", design.shards, design.shardCores),
    leaders: many("leader", design.queues),
    consumers: many("consumer", design.consumers),
    // Receipts and checks of a namespace have queues of their own, each with a leader.
    receipts: many("receipts", design.namespaces),
    trackers: many("tracker", design.trackers)
  };
  const path = [
    { at: "producers", micros: emit("process"), ms: 0 },
    { at: "stores", micros: emit("store"), ms: IDLE_MS * 0.5 },
    { at: "leaders", micros: emit("broker") + group.broker / 2, ms: IDLE_MS * 0.15 },
    { at: "stores", micros: group.store / 2, ms: IDLE_MS * 0.35 },
    { at: "consumers", micros: (group.process * 2) / 3, ms: 0, handler: true },
    { at: "receipts", micros: group.broker / 2, ms: 1 },
    { at: "trackers", micros: group.process / 3, ms: 0 },
    { at: "stores", micros: group.store / 2, ms: 1 }
  ];
  return { stations, path };
}

/** One pair of cores for everything, as the benchmark has it. */
function onTwoCores(design, cost) {
  const { path } = pathOf(design, cost);
  const all = [new Station("all", 2)];
  return { path: path.map(step => ({ ...step, at: "all" })), stations: { all } };
}

// The same numbers in each run: a difference between two designs is then one of the designs.
function randomOf(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Emits that come by chance in a ms. */
function poisson(mean, random) {
  if (mean > 50) return Math.max(0, Math.round(mean + Math.sqrt(mean) * gauss(random)));
  let n = -1;
  for (let product = 1; product > Math.exp(-mean); n++) product *= random();
  return n;
}
const gauss = random => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** In a cluster each message is written by three nodes, of which two write only. */
const REPLICAS = 2;

const MS = 4000;
const PACKS = 16;

function simulate({ path, stations }, rate) {
  const random = randomOf(1);
  const later = Array.from({ length: 64 }, () => []);
  const times = [];
  let recorded = 0;
  const enter = item => {
    const { at, micros } = path[item.step];
    const of = stations[at];
    item.work = (item.n * micros) / 1000;
    of[Math.floor(random() * of.length)].add(item);
  };
  for (let now = 0; now < MS; now++) {
    const arrivals = poisson(rate / 1000, random);
    // What comes in one ms goes in packs through the stations, each its own way.
    for (let left = arrivals; left > 0; ) {
      const n = Math.min(left, Math.ceil(arrivals / PACKS));
      left -= n;
      enter({ born: now, step: 0, n });
    }
    const due = later[now % later.length];
    later[now % later.length] = [];
    for (const item of due) enter(item);
    const done = item => {
      const { ms, handler } = path[item.step];
      if (handler && item.born > MS / 4) times.push([now - item.born, item.n]);
      if (++item.step < path.length) later[(now + Math.max(1, Math.round(ms))) % later.length].push(item);
      else if (now > MS / 4) recorded += item.n;
    };
    for (const each of Object.values(stations).flat()) each.tick(done);
  }
  return { perSecond: recorded / ((MS * 0.75) / 1000), ...percentilesOf(times) };
}

function percentilesOf(times) {
  times.sort(([a], [b]) => a - b);
  const all = times.reduce((sum, [, n]) => sum + n, 0);
  const at = share => {
    let sum = 0;
    return times.find(([, n]) => (sum += n) >= all * share)?.[0] ?? Number.NaN;
  };
  return { p50: at(0.5), p99: at(0.99) };
}

/** The highest rate of which all is recorded, without a queue that stands. */
function stopsAt(make) {
  let [low, high] = [100, 1_000_000];
  while (high / low > 1.02) {
    const rate = Math.sqrt(low * high);
    const { perSecond, p99 } = simulate(make(), rate);
    if (perSecond > 0.97 * rate && p99 < 250) low = rate;
    else high = rate;
  }
  return low;
}

/** The rate at which each part is full, the fullest first. */
function limitsOf(design, cost) {
  const { stations, path } = pathOf(design, cost);
  const need = {};
  for (const { at, micros } of path) need[at] = (need[at] ?? 0) + micros;
  const limits = Object.entries(need).map(([at, micros]) => {
    const cores = stations[at].reduce((sum, each) => sum + each.cores, 0);
    return [at, (cores / micros) * 1e6];
  });
  limits.push(["cores of RabbitMQ", ((design.nodes * design.nodeCores) / (REPLICAS * cost.all.broker)) * 1e6]);
  return limits.toSorted(([, a], [, b]) => a - b);
}

// ------------------------------------------------------------------------------------------------ what it shows

const n = value => Math.round(value).toLocaleString("en");
const percent = share => `${Math.round(share * 100)} %`;

function shown(design, strategy) {
  const cost = COSTS[strategy];
  const make = () => pathOf(design, cost);
  const { perSecond, p50, p99 } = simulate(make(), design.rate);
  const [[part, limit]] = limitsOf(design, cost);
  return [
    `\`${strategy}\``,
    n(design.rate),
    `${design.producers}, ${design.consumers}`,
    `${design.queues} on ${design.nodes} × ${design.nodeCores}`,
    design.namespaces,
    design.trackers,
    `${design.shards} × ${design.shardCores}`,
    n(perSecond),
    `${Math.round(p50)}, ${Math.round(p99)} ms`,
    `${n(Math.min(stopsAt(make), limit))}/s`,
    `${part}: ${n(limit)}/s`,
    `${n(design.namespaces * PRUNED)}/s`,
    Math.ceil(((design.rate / design.consumers) * (design.handlerMs + IDLE_MS)) / 1000)
  ];
}

const HEAD = [
  ...["strategy", "messages /s", "producers, consumers", "queues on nodes × cores", "namespaces", "trackers"],
  ...["shards × cores", "recorded /s", "emit → handler p50, p99", "stops at", "full there", "prunes up to"],
  "`maxInFlight` of a consumer"
];

/** Where all share two cores, as `npm run bench` measures it: a simulation that is far from that shows nothing. */
function checked() {
  return ["outbox", "callback"].map(strategy => {
    const real = number(measured("P12", `\`${strategy}\`, twice the sustainable rate`, "peer"));
    const simulated = stopsAt(() => onTwoCores(DEFAULTS, COSTS[strategy]));
    return [`\`${strategy}\``, n(simulated), n(real), (simulated / real).toFixed(2)];
  });
}

const own = Object.keys(DEFAULTS).filter(name => given[name] !== undefined);
const strategies = given.strategy ? [given.strategy] : ["outbox", "callback"];
if (own.length || given.strategy) {
  const design = { ...DEFAULTS, ...Object.fromEntries(own.map(name => [name, number(given[name])])) };
  console.log(
    table(
      HEAD,
      strategies.map(strategy => shown(design, strategy))
    )
  );
  for (const strategy of strategies)
    console.log(
      `\n${strategy}: ${limitsOf(design, COSTS[strategy])
        .map(([part, limit]) => `${part} ${n(limit)}/s (${percent(design.rate / limit)})`)
        .join(", ")}`
    );
} else {
  const designs = DESIGNS.map(design => ({ ...DEFAULTS, ...design }));
  writeSection(
    "## Simulation",
    `Queues and the measured CPU times of a message ([how](simulate.mjs)); a handler that takes ${DEFAULTS.handlerMs} ms without using a core. A process, a queue's leader and a tracker have one core each. "Stops at": the highest rate at which no queue stands; "full there": the part with the least room. RabbitMQ's cores count twice what one node alone spends, since three write each message. "Prunes up to": what one node removed beside a load (P14), for each namespace.

${table(
  HEAD,
  designs.flatMap(design => strategies.map(strategy => shown(design, strategy)))
)}

Checked against what two cores did for everything (sustainable, P12):

${table(["strategy", "simulated /s", "measured /s", "ratio"], checked())}

\`npm run bench:simulate\`, ${new Date().toISOString().slice(0, 10)}.`
  );
  console.log("Written to bench/results.md.");
}
