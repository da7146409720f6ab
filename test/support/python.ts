import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { inject, onTestFailed, onTestFinished } from "vitest";
import { until } from "./brokers";

const run = promisify(execFile);
const INSTALL = ["install", "-y", "-qq", "--no-install-recommends", "python3-pika"];

/** A Python that has pika, or why there is none. */
export interface Python {
  file?: string;
  problem?: string;
}

async function look(): Promise<string | undefined> {
  // Debian's own first: another interpreter in the PATH does not see Debian's packages.
  for (const file of process.env["PYTHON"] ? [process.env["PYTHON"]] : ["/usr/bin/python3", "python3"]) {
    if (
      await run(file, ["-c", "import pika"]).then(
        () => true,
        () => false
      )
    )
      return file;
  }
  return undefined;
}

/** Looked for by `global-setup.ts`, once; installed where that can be done without asking. */
export async function findPython(): Promise<Python> {
  const found = await look();
  if (found) return { file: found };
  const problem =
    "The Python tests need Python 3 with pika. Debian, as root: apt-get install -y python3-pika. Elsewhere: pip install pika==1.2.0. PYTHON names another interpreter.";
  if (!existsSync("/etc/debian_version") || process.getuid?.() !== 0) return { problem };
  console.log(`test servers: apt-get ${INSTALL.join(" ")}`);
  const apt = (args: string[]) => run("apt-get", args, { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } });
  try {
    await apt(INSTALL).catch(async () => {
      await apt(["update", "-qq"]);
      await apt(INSTALL);
    });
  } catch (error) {
    return { problem: `${problem} That was tried: ${(error as Error).message}` };
  }
  const installed = await look();
  return installed ? { file: installed } : { problem };
}

/** Fails, with the command that helps, where there is none. */
export function python(): string {
  const { file, problem } = inject("python");
  if (!file) throw new Error(problem);
  return file;
}

export interface PythonProcess {
  readonly output: string;
  /** Waits until it has printed this. */
  says(text: string): Promise<unknown>;
  kill(signal: NodeJS.Signals): void;
  /** Its exit code, or the signal that ended it. */
  ended: Promise<number | string>;
}

/** Runs a script of `examples/python` as its README says; killed at the end of the test. */
export function startPython(args: string[], env: Record<string, string>): PythonProcess {
  const child = spawn(python(), args, {
    cwd: "examples/python",
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"]
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const ended = once(child, "close").then(([code, signal]) => (signal ?? code) as number | string);
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  onTestFailed(() => console.log(`--- output of ${args.join(" ").slice(0, 60)}\n${output}`));
  return {
    get output() {
      return output;
    },
    says: text => until(() => output.includes(text)),
    kill: signal => void child.kill(signal),
    ended
  };
}

declare module "vitest" {
  interface ProvidedContext {
    python: Python;
  }
}
