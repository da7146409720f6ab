/** Where what was emitted can be late on this node. */
export const STAGES = {
  /** The event loop itself. */
  loop: "event loop",
  /** From the call of an emit of strategy `outbox` until it is stored. */
  store: "store",
  /** From the call of an emit of strategy `callback` until it is confirmed. */
  broker: "RabbitMQ",
  /** From the call of an emit until a handler of this node has it. */
  handlers: "deliveries"
} as const;

export type Stage = keyof typeof STAGES;

/** What was seen since the sample before. Emits that are never held are not in it. */
export interface LoadSample {
  ms: number;
  /** Held, at its end. */
  waiting: number;
  /** Their promise holds. */
  stored: number;
  /** Of what was emitted here and is handled here too: how many emits have come to a handler; undefined = none is. */
  handled: number | undefined;
  /** By how much each stage is late, in ms; 0 where a server is away, or where it is not this node that is late. */
  late: Readonly<Record<Stage, number>>;
  /** Of the time of the event loop, the part that goes into making messages of what is asked. */
  share: number;
}

export interface AdmissionLimits {
  targetMs: number;
  minPerSecond: number;
}

interface Counted {
  ms: number;
  stored: number;
  handled: number | undefined;
}

export interface AdmissionState {
  /** Emits let in per second; undefined = all. */
  readonly rate: number | undefined;
  /** What is late, while it is. */
  readonly stage: Stage | undefined;
  /** By how much something is late, in ms; smoothed. */
  readonly lateBy: number;
  /** For how long something has been late, without a break. */
  readonly lateMs: number;
  /** For how long nothing would have been late without a limit either. */
  readonly easyMs: number;
  /** The most that was finished per second lately; fades. */
  readonly peak: number;
  readonly recent: readonly Counted[];
}

export const OPEN: AdmissionState = {
  rate: undefined,
  stage: undefined,
  lateBy: 0,
  lateMs: 0,
  easyMs: 0,
  peak: 0,
  recent: []
};

/** How often the load is looked at. */
export const LOOK_MS = 100;
/** A burst is late for a moment; a queue that stands is late in each sample of this time (as in CoDel, RFC 8289). */
const STANDING_MS = 200;
/** What is finished comes in batches: it is counted over this time, and the better one of two in a row is taken. */
const COUNTED_MS = 1000;
/** Below this part of the loop's time it is not emits that make it late, and holding them would mend nothing. */
const SMALL_SHARE = 0.02;
/**
 * What is let in is what is finished, and within a second as much more or less as brings what is on its way to half of
 * what may be; but never less than this part of it.
 */
const LEAST = 0.3;
/** How fast lateness is followed: a look with nothing in it says little. */
const SMOOTH = 0.4;
/**
 * So many on their way are no queue but full batches for the store. Where everything is slow, little on its way is late
 * too, and letting in less would only make batches smaller, and each message dearer. Besides, a thousand callers that
 * each wait for their emit can never have more on its way, and are nothing to be held.
 */
const FULL = 1200;
/** Halves what is remembered of the best rate in this time. */
const PEAK_HALF_MS = 30_000;
/** Never less than this part of it: a rate that follows what it allows itself would only fall. */
const FLOOR = 0.3;
/**
 * The limit ends when all that waits could be let in and would not be late by more than this part of what is late, for
 * so long. Callers that each wait for their emit, hundreds of them, are no overload, however much of it is held.
 */
const EASY = 0.8;
const EASY_MS = 1000;

/**
 * Pure. Nothing is held until something has been late in two looks in a row. From then on emits are let in
 * at the rate at which they are finished: below it while something is late, a little above while nothing is.
 * What is finished is stored, and handled where this node handles what it emits and the deliveries are what is late.
 */
export function step(state: AdmissionState, sample: LoadSample, limits: AdmissionLimits): AdmissionState {
  const { targetMs, minPerSecond } = limits;
  const recent = latest([...state.recent, sample]);
  const [stage, longest] = worst(sample);
  const stored = perSecond(recent.map(({ ms, stored }) => ({ ms, count: stored })));
  const handled = recent.some(({ handled }) => handled !== undefined)
    ? perSecond(recent.map(({ ms, handled = 0 }) => ({ ms, count: handled })))
    : undefined;
  const both = Math.min(stored, handled ?? stored);
  // A backlog that is worked off beside what is emitted makes deliveries late, and is no reason to take less than that.
  const finished = stage === "handlers" ? (handled ?? stored) : both;
  const peak = Math.max(state.peak * 0.5 ** (sample.ms / PEAK_HALF_MS), both);
  const held = state.rate !== undefined;
  const most = Math.max(peak, stored, handled ?? 0);
  const full = Math.max(FULL, (most * targetMs) / 1000);
  const dueMs = most ? (full / most) * 1000 : targetMs;
  const late = longest > dueMs && (held || sample.share >= SMALL_SHARE);
  // One pause of the process, however long, is one look.
  const lateMs = late ? state.lateMs + Math.min(sample.ms, LOOK_MS) : 0;
  const lateBy = state.lateBy + SMOOTH * (longest - state.lateBy);
  const now = { lateBy, lateMs, peak, recent };
  if (!held && lateMs < STANDING_MS) return { ...now, stage: undefined, rate: undefined, easyMs: 0 };
  const more = full * (0.5 - lateBy / dueMs);
  const rate = Math.max(minPerSecond, FLOOR * peak, LEAST * finished, finished + more);
  const waitMs = sample.waiting ? (sample.waiting / both) * 1000 : 0;
  const easyMs = held && !late && waitMs + lateBy < EASY * dueMs ? state.easyMs + sample.ms : 0;
  const over = easyMs >= EASY_MS;
  return { ...now, stage: late ? stage : undefined, rate: over ? undefined : rate, easyMs: over ? 0 : easyMs };
}

function worst({ late }: LoadSample): [Stage, number] {
  let stage: Stage = "loop";
  for (const name of Object.keys(STAGES) as Stage[]) if (late[name] > late[stage]) stage = name;
  return [stage, late[stage]];
}

/** As many as two counts need. */
function latest(samples: Counted[]): Counted[] {
  let ms = 0;
  const from = samples.findLastIndex(sample => (ms += sample.ms) >= 2 * COUNTED_MS);
  return samples.slice(Math.max(0, from)).map(({ ms, stored, handled }) => ({ ms, stored, handled }));
}

/** The better one of the last two counts. */
function perSecond(recent: readonly { ms: number; count: number }[]): number {
  const counts = [0, 0];
  const times = [0, 0];
  let ago = 0;
  for (const { ms, count } of recent.toReversed()) {
    const half = ago < COUNTED_MS ? 0 : 1;
    ago += ms;
    counts[half] = (counts[half] as number) + count;
    times[half] = (times[half] as number) + ms;
  }
  return Math.max(...counts.map((count, i) => (times[i] ? (count / Math.max(times[i], COUNTED_MS / 2)) * 1000 : 0)));
}
