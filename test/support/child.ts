import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { afterAll, onTestFailed, onTestFinished } from "vitest";

export interface NodeOptions {
  /** Over this process's own; undefined takes a variable away. */
  env?: Record<string, string | undefined>;
  /** @default this process's */
  cwd?: string;
  /** Of Node.js itself. */
  execArgv?: string[];
  /** The Moleculer line that `moleculer` means in the child; the parent's own by default. */
  line?: "0.14" | "0.15";
  args?: string[];
  /** Its standard input is ours to write to, by `type`. */
  stdin?: boolean;
}

/** What travels between a test and its child: see `parent.ts` for the child's side. */
export interface Told {
  name: string;
  data?: unknown;
}

interface Waiting {
  name: string;
  resolve(data: unknown): void;
  reject(error: Error): void;
}

const alive = new Set<TestNode>();
// For nodes started in a hook, which no single test owns. The import of this file registers it in the spec's own scope.
afterAll(() => Promise.all([...alive].map(node => node.kill("SIGKILL"))));

/** A process of its own, running a script of `test/` (TypeScript sources) or `dist/` on either Moleculer line. */
export class TestNode {
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  output = "";
  private readonly unread: Told[] = [];
  private readonly waiting: Waiting[] = [];

  constructor(
    readonly file: string,
    private readonly child: ChildProcess
  ) {
    const keep = (chunk: Buffer) => void (this.output += chunk.toString());
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    child.on("message", (told: Told) => this.take(told));
    child.on("error", error => keep(Buffer.from(`${error.stack}\n`)));
    this.exited = new Promise(resolve => child.once("close", (code, signal) => resolve({ code, signal })));
    alive.add(this);
    void this.exited.then(({ code, signal }) => {
      alive.delete(this);
      for (const waiting of this.waiting.splice(0))
        waiting.reject(this.problem(`ended (${signal ?? code}) before it said "${waiting.name}"`));
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** The data of the next message of that name, one already there included. Messages of other names stay for others. */
  async next<T = unknown>(name: string, timeoutMs = 120_000): Promise<T> {
    const at = this.unread.findIndex(told => told.name === name);
    if (at >= 0) return this.unread.splice(at, 1)[0]?.data as T;
    if (!alive.has(this)) throw this.problem(`has ended and never said "${name}"`);
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(
        () => waiting.reject(this.problem(`did not say "${name}" within ${timeoutMs} ms`)),
        timeoutMs
      );
      const waiting: Waiting = {
        name,
        resolve: data => {
          clearTimeout(timer);
          return resolve(data as T);
        },
        reject: error => {
          clearTimeout(timer);
          if (this.waiting.includes(waiting)) this.waiting.splice(this.waiting.indexOf(waiting), 1);
          reject(error);
        }
      };
      this.waiting.push(waiting);
    });
  }

  /** Takes the messages of that name that have come and were not asked for yet. */
  all<T = unknown>(name: string): T[] {
    const mine = this.unread.filter(told => told.name === name);
    for (const told of mine) this.unread.splice(this.unread.indexOf(told), 1);
    return mine.map(told => told.data as T);
  }

  /** A line for its standard input. */
  type(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }

  tell(name: string, data?: unknown): void {
    this.child.send({ name, data } satisfies Told);
  }

  /** Resolves when the process is gone, except for SIGSTOP and SIGCONT. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.child.kill(signal);
    if (signal !== "SIGSTOP" && signal !== "SIGCONT") await this.exited;
  }

  private take(told: Told): void {
    const at = this.waiting.findIndex(waiting => waiting.name === told.name);
    if (at >= 0) this.waiting.splice(at, 1)[0]?.resolve(told.data);
    else this.unread.push(told);
  }

  private problem(what: string): Error {
    return new Error(
      `${path.basename(this.file)} (process ${this.pid}) ${what}. Its output:\n${this.output || "(none)"}`
    );
  }
}

/**
 * Forks a script; a path is relative to the project's root. It is killed at the end of the test that started it (or of
 * the file, when a hook did), and what it printed is shown when that test fails.
 */
export async function startNode(
  file: string,
  { env = {}, line, args = [], stdin = false, cwd, execArgv: own = [] }: NodeOptions = {}
): Promise<TestNode> {
  const script = path.resolve(file);
  const execArgv = ["--require", path.join(__dirname, "alias.cjs"), ...own];
  if (/\.[cm]?ts$/.test(script)) execArgv.push("--import", "tsx");
  const child = fork(script, args, {
    execArgv,
    cwd,
    stdio: [stdin ? "pipe" : "ignore", "pipe", "pipe", "ipc"],
    env: { ...process.env, ...(line && { MOLECULER_LINE: line }), ...env }
  });
  const node = new TestNode(script, child);
  try {
    onTestFinished(() => node.kill("SIGKILL"));
    onTestFailed(() => console.log(`--- output of ${file} (process ${node.pid})\n${node.output}`));
  } catch {
    // Started in a hook: `afterAll` above ends it, and failures of `next` carry the output.
  }
  await once(child, "spawn");
  return node;
}
