import { emitKeypressEvents } from "node:readline";
import type { Clock } from "../../platform/clock";
import { printableLines } from "../../platform/printable";

/** A human at a terminal, while one command runs. */
export interface Terminal {
  /** Whether `y` was typed. */
  ask(question: string): Promise<boolean>;
  /** A line in place of the last one. */
  show(line: string): void;
  /** True = the human has left it, by Ctrl-C. */
  wait(ms: number): Promise<boolean>;
  /** Gives the keys back. */
  close(): void;
}

interface Key {
  ctrl?: boolean;
  name?: string;
}

type Listener = (...args: unknown[]) => void;

/**
 * Takes the keys from the REPL, which would run what is typed as its next command, until `close`. Undefined where one of
 * the two is no terminal: there nobody can be asked.
 */
export function openTerminal(input: NodeJS.ReadStream, output: NodeJS.WriteStream, clock: Clock): Terminal | undefined {
  if (!input.isTTY || !output.isTTY) return undefined;
  const write = (text: string) => void output.write(text);
  const left = new AbortController();
  let answer: ((yes: boolean) => void) | undefined;
  const onKey = (char: unknown, { ctrl = false, name }: Key = {}): void => {
    const leaves = ctrl && (name === "c" || name === "d");
    if (answer) answer(!leaves && String(char).toLowerCase() === "y");
    else if (leaves) left.abort();
  };
  emitKeypressEvents(input);
  const before = input.listeners("keypress") as Listener[];
  const wasRaw = input.isRaw;
  input.on("keypress", onKey);
  for (const listener of before) input.off("keypress", listener);
  // Without it the terminal keeps a line for itself, and Ctrl-C ends the process.
  if (!wasRaw) input.setRawMode(true);
  let shown = false;
  return {
    async ask(question) {
      write(`${printableLines(question)} `);
      const yes = await new Promise<boolean>(resolve => (answer = resolve));
      answer = undefined;
      write(yes ? "y\n" : "n\n");
      return yes;
    },
    show(line) {
      // A line that is wider would not be overwritten.
      write(`\r\u001b[K${printableLines(line).slice(0, output.columns - 1)}`);
      shown = true;
    },
    async wait(ms) {
      await clock.sleep(ms, left.signal);
      return left.signal.aborted;
    },
    close() {
      if (shown) write("\n");
      for (const listener of before) input.on("keypress", listener);
      input.off("keypress", onKey);
      if (!wasRaw) input.setRawMode(false);
    }
  };
}
