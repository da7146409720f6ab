import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";
import { copy, Pool } from "./values";

/** What a piece of product code wants of the world; the world decides when it happens and how it ends. */
export interface Effect {
  op: string;
  [detail: string]: unknown;
}

export type Answer =
  | { value?: unknown }
  | { error: { name: string; message: string; type?: string; retryable?: boolean } };

/** Runs product code. Everything it does to the outside goes through the stage. */
export type Script = (stage: Stage, part: unknown) => Promise<unknown>;

/**
 * A running piece of product code: what it was given, and all answers it has had so far. That determines what it wants
 * next.
 */
export interface Act {
  script: string;
  part: unknown;
  answers: [index: number, answer: number][];
  wants: { index: number; effect: Effect }[];
  /** Set when the script has come to its end. */
  ended?: Answer;
}

/** All product code lives at this instant: time passes in the world's data only. */
export const NOW = new Date(Date.UTC(2026, 0, 1));

/** Longer ones are guards (a handler's timeout, a repeated announcement) that never fire here. */
const LONGEST_PAUSE_MS = 10_000;

interface Wanted {
  effect: Effect;
  settle(answer: Answer): void;
  done: boolean;
}

export class Stage {
  readonly wanted: Wanted[] = [];
  uuids = 0;

  /** Done when the world does it. */
  ask(effect: Effect): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const settle = (answer: Answer) =>
        "error" in answer
          ? reject(Object.assign(new Error(answer.error.message), { stack: "" }, answer.error))
          : resolve(copy(answer.value));
      this.wanted.push({ effect: copy(effect), settle, done: false });
    });
  }

  /** The same where product code does not wait for it. */
  say(effect: Effect): void {
    this.wanted.push({ effect: copy(effect), settle: () => undefined, done: false });
  }
}

interface Live {
  stage: Stage;
  end: { answer?: Answer };
}

const turn = setImmediate;
const MAX_LIVE = 5000;

/**
 * Product code cannot be copied in mid-run, so it is run again with the answers it has had: same answers, same wants.
 * Each step is remembered, so that every way through a script is run about once, however many states of the world it
 * takes part in.
 */
export class Theatre {
  readonly acts = new Pool<Act>();
  readonly answers = new Pool<Answer>();
  readonly #next = new Map<string, number>();
  readonly #live = new Map<number, Live>();
  #stage: Stage | undefined;
  replays = 0;

  constructor(readonly scripts: Record<string, Script>) {}

  /** `key` stands for the part. undefined = not known yet: `begin` finds out. */
  begun(script: string, key: string): number | undefined {
    return this.#next.get(`${script} ${key}`);
  }

  async begin(script: string, key: string, part: unknown): Promise<number> {
    const id = this.#settle({ script, part, answers: [] }, await this.#play(script, part, []));
    this.#next.set(`${script} ${key}`, id);
    return id;
  }

  advanced(act: number, index: number, answer: number): number | undefined {
    return this.#next.get(`${act}.${index}.${answer}`);
  }

  async advance(id: number, index: number, answer: number): Promise<number> {
    const { script, part, answers } = this.acts.get(id);
    const live = this.#live.get(id) ?? (await this.#play(script, part, answers));
    this.#live.delete(id);
    await this.#answer(live, index, answer);
    const next = this.#settle({ script, part, answers: [...answers, [index, answer]] }, live);
    this.#next.set(`${id}.${index}.${answer}`, next);
    return next;
  }

  async #play(script: string, part: unknown, answers: [number, number][]): Promise<Live> {
    this.replays++;
    const stage = new Stage();
    const end: { answer?: Answer } = {};
    this.#stage = stage;
    const { [script]: run } = this.scripts;
    if (!run) throw new Error(`No script '${script}'.`);
    void run(stage, copy(part)).then(
      value => (end.answer = { value }),
      (error: Error & { type?: string }) =>
        (end.answer = { error: { name: error.name, message: error.message, type: error.type } })
    );
    await new Promise(turn);
    const live = { stage, end };
    this.#stage = undefined;
    for (const [index, answer] of answers) await this.#answer(live, index, answer);
    return live;
  }

  async #answer({ stage }: Live, index: number, answer: number): Promise<void> {
    const wanted = stage.wanted[index];
    if (!wanted || wanted.done) throw new Error("The model answered what was not asked.");
    this.#stage = stage;
    wanted.done = true;
    wanted.settle(this.answers.get(answer));
    await new Promise(turn);
    this.#stage = undefined;
  }

  #settle(act: Omit<Act, "wants">, live: Live): number {
    const wants = live.stage.wanted.flatMap(({ effect, done }, index) => (done ? [] : [{ index, effect }]));
    const id = this.acts.id({ ...act, wants, ...(live.end.answer && { ended: live.end.answer }) });
    if (this.#live.size < MAX_LIVE) this.#live.set(id, live);
    return id;
  }

  /**
   * Puts the clock, timers and random things of this process into the theatre's hands; returns what gives them back.
   */
  install(): () => void {
    const real = {
      Date,
      setTimeout,
      clearTimeout,
      setInterval,
      clearInterval,
      random: Math.random,
      now: performance.now,
      uuid: crypto.randomUUID
    };
    class Fixed extends Date {
      constructor(...given: [] | [number | string | Date]) {
        super(given.length ? given[0] : NOW.getTime());
      }
      static override now(): number {
        return NOW.getTime();
      }
      static override [Symbol.hasInstance](value: unknown): boolean {
        return value instanceof real.Date;
      }
    }
    const handle = (wanted?: Wanted) => ({ wanted, unref: () => handle(wanted), ref: () => handle(wanted) });
    const pause = (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) => {
      const stage = this.#stage;
      // The test runner's own.
      if (!stage) return real.setTimeout(run, ms, ...args);
      if (ms > LONGEST_PAUSE_MS) return handle();
      void stage.ask({ op: "pause" }).then(() => run(...args));
      return handle(stage.wanted.at(-1));
    };
    const cancel = (timer?: { wanted?: Wanted } & NodeJS.Timeout) => {
      if (timer?.wanted) timer.wanted.done = true;
      else real.clearTimeout(timer);
    };
    Object.assign(globalThis, {
      Date: Fixed,
      setTimeout: pause,
      clearTimeout: cancel,
      setInterval: () => handle(),
      clearInterval: () => undefined
    });
    Object.assign(Math, { random: () => 0.5 });
    Object.assign(performance, { now: () => 0 });
    Object.assign(crypto, { randomUUID: () => `uuid-${++(this.#stage as Stage).uuids}` });
    syncBuiltinESMExports();
    return () => {
      const { random, now, uuid, ...globals } = real;
      Object.assign(globalThis, globals);
      Object.assign(Math, { random });
      Object.assign(performance, { now });
      Object.assign(crypto, { randomUUID: uuid });
      syncBuiltinESMExports();
    };
  }
}
