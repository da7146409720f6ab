import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { CLUSTER_FAULTS, FAULTS } from "./matrix";
import { report } from "./report";
import { commitOf, earlierOutcome, type Outcome, runFault } from "./run";
import { Servers } from "./servers";

const HELP = `npm run faults                      the whole matrix; prints the table and writes it to test/chaos/results.md (cluster-results.md) and docs/guide/faults.md
npm run faults -- --only NAME[,…]   these faults
                 --seed N           the seed of every chance (default: random, printed)
                 --messages N       emits of each run, at least (default 26000)
                 --line 0.14        on Moleculer 0.14
                 --folder PATH      where journals and logs go (default: /tmp/reliable-faults)
                 --continue         what this seed has an outcome of in the folder is not run again
                 --cluster          those of a cluster instead: three RabbitMQ nodes, Redis Sentinel, a replica set (Linux, root; 80 minutes)
                 --list             the names`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      seed: { type: "string" },
      messages: { type: "string" },
      line: { type: "string" },
      folder: { type: "string" },
      continue: { type: "boolean" },
      cluster: { type: "boolean" },
      list: { type: "boolean" },
      help: { type: "boolean" }
    }
  });
  if (values.help) return console.log(HELP);
  const { cluster: clustered = false } = values;
  const all = clustered ? CLUSTER_FAULTS : FAULTS;
  if (values.list) return console.log(all.map(({ name, title }) => `${name.padEnd(28)} ${title}`).join("\n"));
  const wanted = values.only?.split(",");
  const unknown = wanted?.find(name => !all.some(fault => fault.name === name));
  if (unknown)
    throw new Error(
      `There is no fault '${unknown}'; \`npm run faults -- ${clustered ? "--cluster " : ""}--list\` names them.`
    );
  const seed = number("seed", values.seed) ?? Math.floor(Math.random() * 2 ** 31);
  const messages = number("messages", values.messages) ?? 26_000;
  const line = values.line ?? "0.15";
  if (line !== "0.15" && line !== "0.14") throw new Error(`--line is 0.15 or 0.14, not ${line}`);
  const folder = values.folder ?? "/tmp/reliable-faults";
  mkdirSync(folder, { recursive: true });
  const faults = all.filter(({ name }) => !wanted || wanted.includes(name));
  console.log(`${faults.length} faults, seed ${seed}, at least ${messages} emits each; journals and logs in ${folder}`);
  const servers = await Servers.start(clustered);
  const outcomes: Outcome[] = [];
  const started = performance.now();
  let stopped = false;
  process.once("SIGINT", () => (stopped = true));
  try {
    for (const [i, fault] of faults.entries()) {
      if (stopped) break;
      const place = `[${i + 1}/${faults.length}, ${Math.round((performance.now() - started) / 60_000)} min]`;
      const outcome =
        (values.continue && earlierOutcome(fault, folder, seed)) ||
        (await runFault(fault, servers, { seed, messages, line, folder, progress: progress(place) }).catch(
          (error: Error) => failed(fault, seed, line, error)
        ));
      outcomes.push(outcome);
      clear();
      console.log(`${place} ${summary(outcome)}`);
    }
  } finally {
    await servers.wipe();
  }
  const text = report(outcomes, { seed, messages, of: wanted ? undefined : all.length, clustered });
  console.log(`\n${text}`);
  if (!wanted) publish(text, clustered ? "cluster-results.md" : "results.md");
  if (outcomes.some(({ complaints }) => complaints.length)) process.exitCode = 1;
}

/** Where users read the results. */
const GUIDE = "docs/guide/faults.md";

/** Into the results and into the guide. */
function publish(text: string, name: "results.md" | "cluster-results.md"): void {
  writeFileSync(`test/chaos/${name}`, text);
  const [begin, end] = [`<!-- test/chaos/${name} -->\n`, `<!-- /test/chaos/${name} -->`];
  const guide = readFileSync(GUIDE, "utf8");
  writeFileSync(GUIDE, guide.slice(0, guide.indexOf(begin) + begin.length) + text + guide.slice(guide.indexOf(end)));
}

function number(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d+$/.test(text)) throw new Error(`--${name} is a number, not '${text}'`);
  return Number(text);
}

/** One line that changes, on a terminal; else a line every ten seconds. */
function progress(place: string): (text: string) => void {
  let last = 0;
  return text => {
    if (process.stdout.isTTY) return void process.stdout.write(`\r\x1b[K${place} ${text}`.slice(0, 200));
    if (performance.now() - last < 10_000) return;
    last = performance.now();
    console.log(`${place} … ${text}`);
  };
}

function clear(): void {
  if (process.stdout.isTTY) process.stdout.write("\r\x1b[K");
}

function summary({ fault, verdict, complaints, notes, seconds }: Outcome): string {
  const { promised, lost, redelivered, between, recoverMs, pauseMs } = verdict;
  return `${complaints.length ? "BROKEN" : "ok"} ${fault}: ${promised} promised, ${lost.length} lost, ${redelivered} delivered again, ${between} handled twice around the fault, recovered in ${(recoverMs / 1000).toFixed(1)} s, longest pause ${(pauseMs / 1000).toFixed(1)} s, ${seconds} s${notes.map(note => `\n    ${note}`).join("")}${complaints.map(complaint => `\n    ${complaint}`).join("")}`;
}

function failed({ name, title }: { name: string; title: string }, seed: number, line: string, error: Error): Outcome {
  const verdict = {
    attempted: 0,
    promised: 0,
    unknown: 0,
    refused: 0,
    cancelled: 0,
    handled: 0,
    lost: [],
    undead: [],
    redelivered: 0,
    twice: [],
    between: 0,
    doubled: [],
    order: { broken: [], beside: [] },
    dead: 0,
    wrong: [],
    parked: 0,
    strays: [],
    errors: [],
    recoverMs: 0,
    pauseMs: 0
  };
  return {
    fault: name,
    title,
    seed,
    line,
    commit: commitOf(),
    verdict,
    complaints: [`the run broke off: ${error.stack ?? error.message}`],
    notes: [],
    seconds: 0
  };
}

void main()
  .catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 2;
  })
  // What 47 faults have left half open shall not keep it; what was printed goes out first.
  .then(() => process.stdout.write("", () => process.exit()));
