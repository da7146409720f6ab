import type { BreakerOptions } from "../options/options";

/**
 * The states of a breaker. It opens when what a handler depends on seems to be away, so that an outage costs no
 * attempts; `docs/design.md` has the table of what counts.
 *
 *   closed ──── a run of failures ───▶ open ──── after a pause ───▶ probing
 *     ▲                                 ▲ ▲                          │   │
 *     │                                 │ └──────── it fails ────────┘   │ it succeeds
 *     └── some successes, or time ── trial ◀─────────────────────────────┘
 *                                       └──── a short run of failures ──▶ open
 */
export const BREAKER = {
  /**
   * All that comes goes through. Left when as many different messages as `failures`, and as many as are still running,
   * have failed within a minute without a success: what refuses at once must not outrun what takes its time to succeed.
   */
  closed: "closed",
  /** Nothing is taken. What was in hand ends as it ends, and says nothing. Left after a pause that grows. */
  open: "open",
  /** One message at a time. Left with the first one whose handler says how it is. */
  probing: "probing",
  /** A probe has succeeded: a few at a time. Left after some successes, or some time without another opening. */
  trial: "trial"
} as const;

export type BreakerState = (typeof BREAKER)[keyof typeof BREAKER];

/** At a time, on trial: what has just come back is not overrun. */
const TRIAL_LIMIT = 5;
/** Different messages in a row. One is not enough: it may be poison, and then the others must go on. */
const TRIAL_FAILURES = 3;
/** After the probe's. */
const TRIAL_SUCCESSES = 3;

/**
 * Failures before the opening that are older (beside the time that handlers take) are no part of the run, and keep what
 * they have cost. An outage whose messages need longer than that to come is one of a quiet group, for which there is
 * `patienceMs`; and a death that a human may have seen is not undone.
 */
const GIVEN_BACK_MS = 60_000;

/** Messages whose first failure is remembered for `patienceMs`. */
const MAX_PATIENT = 10_000;

/** One that may be tried again. */
export interface HandlerFailure<Answer> {
  id: string;
  /** No earlier attempt of it has counted. One of which another has is known to fail while others succeed. */
  fresh: boolean;
  /** When its handler began. */
  era: number;
  /** Monotonic. */
  at: number;
  /** How long its handler took. */
  tookMs: number;
  answer: Answer;
}

export interface Judgement<Answer> {
  /** It does not count. */
  excused: boolean;
  /** Neither do these, which were told as counting: the run that has opened the breaker. */
  givenBack: Answer[];
}

/** Decides; `consumer-breaker.ts` acts. It has no clock and no timer of its own. */
export class Breaker<Answer> {
  state: BreakerState = BREAKER.closed;
  /** Grows with each opening. What began before one says nothing about what came after it. */
  era = 0;
  #openings = 0;
  /** Handlers that have begun since the last opening and not ended: how these end is not known yet. */
  #running = 0;
  #successes = 0;
  /** Different messages that have failed since the last success, and lately. */
  readonly #run = new Map<string, { until: number; answer: Answer }>();
  /** By id: when it first failed here. */
  readonly #patient = new Map<string, number>();

  constructor(
    private readonly options: BreakerOptions,
    /** Deliveries that the consumer may hold. */
    private readonly full: number
  ) {}

  /** How many may be held at a time. */
  get limit(): number {
    const { closed, open, probing, trial } = BREAKER;
    const limits = { [closed]: this.full, [open]: 0, [probing]: 1, [trial]: Math.min(TRIAL_LIMIT, this.full) };
    return limits[this.state];
  }

  /** How often it has opened without closing in between. */
  get openings(): number {
    return this.#openings;
  }

  /** A handler begins; `ended` must follow, before it is said how. Returns the era, which its end has to name. */
  begin(): number {
    this.#running++;
    return this.era;
  }

  /** Or its time is up. */
  ended(era: number): void {
    if (era === this.era) this.#running--;
  }

  succeeded(id: string, era: number): void {
    this.#patient.delete(id);
    if (era !== this.era) return;
    this.#run.clear();
    if (this.state === BREAKER.probing) {
      this.state = BREAKER.trial;
      this.#successes = 0;
    } else if (this.state === BREAKER.trial && ++this.#successes >= TRIAL_SUCCESSES) this.#close();
  }

  failed({ id, fresh, era, at, tookMs, answer }: HandlerFailure<Answer>): Judgement<Answer> {
    const patient = this.#isPatient(id, at);
    if (era !== this.era) return { excused: true, givenBack: [] };
    if (this.state === BREAKER.probing) {
      this.#open();
      return { excused: true, givenBack: [] };
    }
    for (const [old, { until }] of this.#run) if (until < at) this.#run.delete(old);
    if (fresh || this.#run.has(id)) this.#run.set(id, { until: at + GIVEN_BACK_MS + this.#turns * tookMs, answer });
    if (this.#run.size < Math.max(this.#threshold, this.#running)) return { excused: patient, givenBack: [] };
    this.#run.delete(id);
    const givenBack = [...this.#run.values()].map(({ answer }) => answer);
    this.#open();
    return { excused: true, givenBack };
  }

  /** Its time in this state is over: the pause of an open one, or the longest trial. */
  elapsed(): void {
    if (this.state === BREAKER.open) this.state = BREAKER.probing;
    else if (this.state === BREAKER.trial) this.#close();
  }

  /** As at its beginning. */
  reset(): void {
    this.#open();
    this.#close();
    this.#patient.clear();
  }

  get #threshold(): number {
    const { failures } = this.options;
    return this.state === BREAKER.trial ? Math.min(TRIAL_FAILURES, failures) : failures;
  }

  /** How often the consumer's hands must be empty again for a run: with few at a time, handlers that hang take long. */
  get #turns(): number {
    return Math.ceil(this.options.failures / this.full);
  }

  #open(): void {
    this.state = BREAKER.open;
    this.era++;
    this.#openings++;
    this.#running = 0;
    this.#run.clear();
  }

  #close(): void {
    this.state = BREAKER.closed;
    this.#openings = 0;
    this.#run.clear();
  }

  #isPatient(id: string, at: number): boolean {
    const { patienceMs } = this.options;
    if (!patienceMs) return false;
    const first = this.#patient.get(id);
    if (first !== undefined) return at - first < patienceMs;
    const [oldest] = this.#patient.keys();
    if (this.#patient.size >= MAX_PATIENT) this.#patient.delete(oldest as string);
    this.#patient.set(id, at);
    return true;
  }
}
