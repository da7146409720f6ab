import { type Clock, systemClock, type Timer } from "./clock";
import type { Logger } from "./logger";

/** After a line of the log, further ones about the same are counted for so long. */
const WINDOW_MS = 60_000;

/** What a stranger writes is in some causes: no more than so many are told apart, of one kind and in all. */
const MAX_CAUSES = 20;
const MAX_KEYS = 500;

type Level = "warn" | "error";

interface Told {
  level: Level;
  kind: string;
  /** Causes that are not told apart any more. */
  mixed: boolean;
  /** Since the last line: the newest of what was not logged, and how many there are. */
  text: string;
  left: number;
  timer: Timer;
}

/**
 * Lines of the log that may come once per message: of each cause the first is logged at once, and then at most one a
 * minute, with the number of those that were left out. A thousand dead messages are one line, not a thousand.
 */
export class Warnings {
  readonly #told = new Map<string, Told>();

  constructor(
    private readonly logger: Logger,
    private readonly clock: Clock = systemClock
  ) {}

  /** `kind` and `cause` tell what is the same; `count`: of the messages that the text is about. */
  warn(kind: string, cause: string, text: string, count = 1): void {
    this.#tell("warn", kind, cause, text, count);
  }

  /** The same for what is logged as an error. */
  error(kind: string, cause: string, text: string, count = 1): void {
    this.#tell("error", kind, cause, text, count);
  }

  /** Logs what was left out so far. The next one of each cause is logged at once. */
  flush(): void {
    for (const told of this.#told.values()) {
      told.timer.stop();
      this.#logLeft(told);
    }
    this.#told.clear();
  }

  #tell(level: Level, kind: string, cause: string, text: string, count: number): void {
    let key = JSON.stringify([level, kind, cause]);
    const mixed = !this.#told.has(key) && this.#isFull(kind);
    // Kinds are a few, and ours.
    if (mixed) key = JSON.stringify([level, kind]);
    const told = this.#told.get(key);
    if (told) {
      told.text = text;
      told.left += count;
      return;
    }
    this.logger[level](text);
    this.#told.set(key, { level, kind, mixed, text, left: 0, timer: this.#timer(key) });
  }

  #isFull(kind: string): boolean {
    const ofKind = [...this.#told.values()].filter(told => told.kind === kind && !told.mixed);
    return ofKind.length >= MAX_CAUSES || this.#told.size >= MAX_KEYS;
  }

  #timer(key: string): Timer {
    return this.clock.after(WINDOW_MS, () => {
      const told = this.#told.get(key);
      if (!told?.left) {
        this.#told.delete(key);
        return;
      }
      this.#logLeft(told);
      told.left = 0;
      told.timer = this.#timer(key);
    });
  }

  /** The newest of them stands for the others. */
  #logLeft({ level, mixed, text, left }: Told): void {
    if (!left) return;
    const more = `${(left - 1).toLocaleString("en")} ${mixed ? "others" : "more like it"} in the last minute`;
    this.logger[level](left > 1 ? `${text} (and ${more})` : text);
  }
}
