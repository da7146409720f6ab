import { WaitGroup } from "../async/wait-group";
import type { EmitOptions } from "../emit/emit-options";
import type { EmitConditions, EmitResult, Strategy } from "../emit/strategy";
import type { ListedMessage, Message } from "../message/message";
import type { TestClock } from "./clock";

/** An emit that a strategy was given, as it was then. */
export interface RecordedEmit {
  readonly message: Message;
  /** The payload as JSON, as its handlers get it. */
  readonly body: Buffer;
  /** The `sendAt` that its service has given. */
  readonly given: Date | undefined;
  outcome: "open" | "resolved" | "rejected";
  /** As it was seen last: rows are pruned in their time, and gone with the last node. */
  row?: ListedMessage;
}

/** All emits of a kit's nodes, in their order; one per id. */
export class Emits {
  readonly #all = new Map<string, RecordedEmit>();
  /** What services have given as `sendAt`, by what the clock of the kit makes of it. */
  readonly #given = new WeakMap<Date, Date>();
  readonly #strategies = new Set<Strategy>();
  readonly #waiting = new WaitGroup();

  constructor(private readonly clock: TestClock) {}

  get all(): Iterable<RecordedEmit> {
    return this.#all.values();
  }

  saw(row: ListedMessage): void {
    const record = this.#all.get(row._id);
    if (record) record.row = row;
  }

  /** Those of which nothing was seen yet but that they were sent. */
  get unseen(): RecordedEmit[] {
    return [...this.#all.values()].filter(
      ({ message, outcome, row }) => message.strategy === "callback" && outcome !== "rejected" && !row
    );
  }

  /** Resolves when what was given to strategies is on its way, or stored to be sent. */
  async idle(): Promise<void> {
    await this.#waiting.idle();
    await Promise.all([...this.#strategies].map(strategy => strategy.idle()));
  }

  forget(): void {
    this.#all.clear();
  }

  /**
   * A service has reckoned its instant from the process's time, which the kit's is behind or ahead of: "in an hour" stays
   * in an hour.
   */
  options(given: EmitOptions): EmitOptions {
    const sendAt = given?.sendAt;
    if (!(sendAt instanceof Date) || Number.isNaN(sendAt.getTime())) return given;
    const moved = new Date(sendAt.getTime() + this.clock.now() - Date.now());
    this.#given.set(moved, sendAt);
    return { ...given, sendAt: moved };
  }

  /** `before`: what a message waits for before it is kept; undefined = nothing. */
  recorded(own: Strategy, before: (message: Message) => Promise<void> | undefined): Strategy {
    this.#strategies.add(own);
    return {
      emit: (message, conditions) => {
        const ready = before(message);
        const emit = () => this.#record(message, conditions, own.emit(message, conditions));
        if (!ready) return emit();
        this.#waiting.track(ready);
        return ready.then(emit);
      },
      get pending() {
        return own.pending;
      },
      get pendingBytes() {
        return own.pendingBytes;
      },
      idle: () => own.idle(),
      stop: () => own.stop()
    };
  }

  #record(message: Message, { plain, waitFor }: EmitConditions, emitted: Promise<EmitResult>): Promise<EmitResult> {
    const { _id: id, body, sendAt } = message;
    const before = this.#all.get(id);
    const record: RecordedEmit = {
      message: { ...message },
      body: plain?.body ?? body,
      given: sendAt && this.#given.get(sendAt),
      outcome: "open"
    };
    // Emitted again: it is the same message, if the first emit was kept.
    if (!before || before.outcome === "rejected") this.#all.set(id, record);
    // Its handlers may fail, and the next attempt may be due in a minute: it would never come.
    if (waitFor !== "stored") this.clock.runWhile(emitted);
    const end = (outcome: RecordedEmit["outcome"]) => () => {
      record.outcome = outcome;
    };
    emitted.then(end("resolved"), end("rejected"));
    return emitted;
  }
}
