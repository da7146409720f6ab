import { BSON, type Document, MongoClient } from "mongodb";
import { uuidv7 } from "uuidv7";
import { systemClock } from "../../src/platform/clock";
import { PROBE_ID } from "../../src/stores/documents/barriers";
import { COLLECTION_NAMES } from "../../src/stores/documents/collection";
import { DONE_ID } from "../../src/stores/documents/drops";
import { INDEXES } from "../../src/stores/documents/indexes";
import { MongoStore } from "../../src/stores/mongo/store";
import { prefixOf } from "../../src/wire/names";
import { until } from "../support/brokers";
import { at, silent } from "../support/messages";
import { mongoProxy } from "../support/mongo-proxy";
import { urls } from "../support/servers";
import { type Answer, type CommandName, LATE } from "./answers";
import { BUSINESS, scenario } from "./scenario";
import type { Step } from "./step";

/** `once`: to the first such command of each step. `for good`: to every one, until its caller has been told. */
export const MODES = ["once", "for good"] as const;

export type Mode = (typeof MODES)[number];

export interface Fault {
  command: CommandName;
  answer: Answer;
  mode: Mode;
}

export interface Outcome {
  /** Types of the errors that callers were told, sorted; another's error by its code or name. */
  told: string[];
  /** Steps that met the answer. */
  met: string[];
  /** Steps that went on as if done while the answer was still given. */
  unmoved: string[];
  /** What the collections hold at the end. */
  rows: string;
}

/** Rows that are no promise: of `probe`, and how far payloads are dropped, which the next page says if this one did not. */
const UNPROMISED: string[] = [PROBE_ID, DONE_ID];

/** A driver repeats some commands by itself until they are done: after so many answers the server is well again. */
const HEALED_AFTER = 6;
/**
 * Given in so many steps only: a late answer, which costs its caller 20 s; and one about indexes, which are made beside the
 * steps: where it makes the driver give up its connections, a step may happen to need one at that moment.
 */
const FEW_STEPS = 2;
const TRIES = 5;
/** What the server will never make is not asked for again. */
const REFUSED = /^17419/;

/** Instants of the scenario are before it, those of the run after it; the latter differ from run to run. */
const RUN_FROM = at(86_400_000).toISOString();

/** The answer given in a run, and to which commands it still is. */
class Injection {
  #left = 0;
  #met = 0;
  readonly #steps = new Set<string>();
  #step = "";

  constructor(private readonly fault: Fault | undefined) {}

  begin(step: string): void {
    this.#step = step;
    this.#met = 0;
    const { answer, mode } = this.fault ?? {};
    const few = answer?.name === LATE || this.fault?.command === "createIndexes";
    const spent = few && this.#steps.size >= FEW_STEPS;
    this.#left = !mode || spent ? 0 : mode === "once" ? 1 : HEALED_AFTER;
  }

  take(name: string): Answer | undefined {
    if (name !== this.fault?.command || !this.#left) return undefined;
    this.#left--;
    this.#met++;
    this.#steps.add(this.#step);
    return this.fault.answer;
  }

  heal(): void {
    this.#left = 0;
  }

  get met(): string[] {
    return [...this.#steps];
  }

  /** Answered like this in the current step, and still would be. */
  get still(): boolean {
    return this.fault?.mode === "for good" && this.#met > 0 && this.#left > 0;
  }
}

/** All of these, some at a time. */
export async function runAll(faults: Fault[], atOnce: number): Promise<Map<Fault, Outcome | Error>> {
  const outcomes = new Map<Fault, Outcome | Error>();
  const queue = [...faults];
  const next = async (): Promise<void> => {
    for (let fault = queue.shift(); fault; fault = queue.shift())
      outcomes.set(fault, await run(fault).catch((thrown: Error) => thrown));
  };
  await Promise.all(Array.from({ length: atOnce }, next));
  return outcomes;
}

/** One run of the scenario, by a caller that repeats what was refused, beside a server that gives this answer. */
export async function run(fault?: Fault): Promise<Outcome> {
  const database = `reliable_answers_${uuidv7()}`;
  const injection = new Injection(fault);
  const proxy = await mongoProxy({
    target: urls().mongo,
    play: command => injection.take(command.name)?.play(command)
  });
  const client = new MongoClient(proxy.url, { serverSelectionTimeoutMS: 5000, heartbeatFrequencyMS: 500 });
  let store = storeOf(client, database);
  const told = new Set<string>();
  const unmoved: string[] = [];
  let starting = true;
  let refused = false;
  /** A store remembers for a while which rows took nothing; its operator has mended that now. */
  const fresh = async () => {
    await store.close();
    store = storeOf(client, database);
    store.onRefused(error => {
      told.add(kindOf(error));
      refused = true;
      injection.heal();
    });
  };
  const repeat = async ({ name, work, deletes }: Step) => {
    if (deletes) await proxy.idle();
    injection.begin(name);
    for (let tries = 1; ; tries++)
      try {
        refused = false;
        await work(store, client);
        if (refused) {
          await fresh();
          await store.start();
          continue;
        }
        if (injection.still) unmoved.push(name);
        injection.heal();
        return;
      } catch (thrown) {
        told.add(kindOf(thrown));
        injection.heal();
        if (tries === TRIES) throw new Error(`${name} fails for good`, { cause: thrown });
      }
  };
  try {
    await repeat({
      name: "start",
      async work() {
        await fresh();
        const ready = new Promise<void>(resolve => store.onReady(resolve));
        store.onUnavailable(error => {
          if (!starting) return;
          told.add(kindOf(error));
          injection.heal();
        });
        await store.start();
        if (!store.ready) await ready;
        starting = false;
      }
    });
    for (const step of scenario(database)) await repeat(step);
    await proxy.idle();
    if (fault?.command === "createIndexes" && !REFUSED.test(fault.answer.name)) await indexed(database);
    return { told: [...told].sort(), met: injection.met, unmoved, rows: await rowsOf(database) };
  } finally {
    await store.close();
    await client.close();
    await proxy.close();
    await withClient(direct => direct.db(database).dropDatabase());
  }
}

/** Whatever was answered, the indexes are there some time later. */
async function indexed(database: string): Promise<void> {
  await withClient(direct =>
    until(
      async () => {
        const all = COLLECTION_NAMES.map(name =>
          direct
            .db(database)
            .collection(`${prefixOf("n")}.${name}`)
            .indexes()
        );
        const made = (await Promise.all(all.map(indexes => indexes.catch(() => [])))).flat();
        return made.filter(({ name }) => name !== "_id_").length;
      },
      made => made === COLLECTION_NAMES.flatMap(name => INDEXES[name]).length
    )
  );
}

function storeOf(client: MongoClient, database: string): MongoStore {
  return new MongoStore({ client, database, namespace: "n", logger: silent, clock: systemClock });
}

function kindOf(thrown: unknown): string {
  const { type, code, name } = thrown as { type?: string; code?: number; name?: string };
  return type ?? (code ? `the driver's ${code}` : `the driver's ${name}`);
}

async function withClient<T>(work: (client: MongoClient) => Promise<T>): Promise<T> {
  const client = new MongoClient(urls().mongo);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

function rowsOf(database: string): Promise<string> {
  return withClient(async client => {
    const all: Record<string, Document[]> = {};
    for (const name of [...COLLECTION_NAMES, BUSINESS]) {
      const full = name === BUSINESS ? name : `${prefixOf("n")}.${name}`;
      const docs = await client.db(database).collection(full).find().sort({ _id: 1 }).toArray();
      all[name] = docs.filter(({ _id }) => !UNPROMISED.includes(String(_id)));
    }
    return BSON.EJSON.stringify(withoutNames(all), withoutRun, 1);
  });
}

/** Each try of an insert has a body of its own: one that no row names is pruned some day. */
function withoutNames({ messages = [], bodies = [], ...others }: Record<string, Document[]>): object {
  const rows = new Map(messages.map(({ _id, bodyId }) => [bodyId, _id]));
  return {
    ...others,
    messages: messages.map(({ bodyId, ...row }) => (bodyId === undefined ? row : { ...row, apart: true })),
    bodies: bodies
      .filter(({ _id }) => rows.has(_id))
      .map(({ _id, ...body }) => ({ ...body, namedBy: rows.get(_id) }))
      .toSorted((a, b) => (String(a.namedBy) < String(b.namedBy) ? -1 : 1))
  };
}

/** An empty list says the same as none, and the order of fields says nothing. */
function withoutRun(_: string, value: unknown): unknown {
  if (Array.isArray(value)) return value.length ? value : undefined;
  if (typeof value !== "object" || value === null) return value;
  const { $date } = value as { $date?: string };
  if ($date && $date > RUN_FROM) return "when it ran";
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
