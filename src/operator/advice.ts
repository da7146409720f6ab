import { pauses } from "../message/paused";

/** What an operator has to know of everything, to be told what to do. */
export interface Situation {
  now: Date;
  /** Since when it takes no writes, or (`slow`) does not answer in time. */
  store: { name: string; awaySince?: Date | undefined; slow?: boolean | undefined };
  /** `slow`: it is connected, and what has no answer. */
  rabbitmq: { awaySince?: Date | undefined; blocked?: string | undefined; slow?: string | undefined };
  /** Since when it does not answer; undefined too where none is configured. */
  redis: { awaySince?: Date | undefined };
  /** Stored and not yet published; undefined = not known. */
  pending: Counted & { oldestMs?: number | undefined };
  dead: Counted & { groups: string[]; since?: Date | undefined };
  /** Order keys that are held; undefined = not known. */
  keys?: (Counted & { first: HeldKeyNow | undefined }) | undefined;
  parked: Counted;
  groups: { group: string; waits: QueueWait[]; lastSeenAt: Date | undefined }[];
  silentNodes: { nodeID: string; since: Date }[];
  /** What a human has paused. */
  paused: Paused[];
  /** Consumers that take one message at a time, since what their handlers need is away. */
  breakers: OpenBreaker[];
  /** Bulk acts that go on, or that have stopped themselves. */
  bulks: RunningBulk[];
}

/** undefined = not known. `capped`: there are more. */
export interface Counted {
  count: number | undefined;
  capped?: boolean | undefined;
}

/** One queue of a group. */
export interface QueueWait {
  pattern: string;
  queue: string;
  /** null = there is no such queue, or RabbitMQ does not say: `known` tells which. */
  ready: number | null;
  consumers: number | null;
  known: boolean;
  /** It has no consumer, and a process that has it in its hands: a breaker is open, or it is just starting. */
  lives?: true;
}

export interface Paused {
  group: string;
  pattern?: string | undefined;
  sinceAt: Date;
  by: string;
}

export interface OpenBreaker {
  group: string;
  nodeID: string;
  sinceAt: Date;
}

/** A key that is held in a group, by a dead message. */
export interface HeldKeyNow {
  key: string;
  group: string;
  id: string;
  since: string;
  /** How many wait behind it. */
  behind: number;
  capped?: boolean;
}

export interface RunningBulk {
  id: string;
  act: string;
  state: string;
  /** Why it has stopped itself. */
  reason?: string | undefined;
}

/** `act`: somebody has to do something. `watch`: it goes on by itself, and should not for ever. */
export type Level = "ok" | "watch" | "act";

export interface Advice {
  level: Level;
  /** What to do, in one sentence or two. */
  sentence: string;
  /** What else there is, the same way: it comes after. */
  also: string[];
}

type Piece = [level: Exclude<Level, "ok">, text: string] | undefined;

/** What is held up, in a healthy cluster, goes out within seconds. */
const OLD_PENDING_MS = 5 * 60_000;

/**
 * Pure: what to do, most pressing first. The order:
 *
 *   1  the store is away            nothing can be promised, and nothing else is known
 *   2  RabbitMQ is away, or blocks  nothing moves; what follows may come of it
 *   3  held keys                    dead messages for which others wait
 *   4  dead messages                wait for a human, and for nothing else
 *   5  a bulk act stopped itself    somebody has begun it, and believes that it goes on
 *   6  a group without a consumer   its messages wait for a start
 *   7  parked messages              cannot be read; a human looks, and no message of ours waits for it
 *   8  the store or RabbitMQ slow   under load, or away, which is known some seconds later
 *   9  a breaker is open            goes on by itself when what the handler needs is back
 *   10 a node does not answer       the others do its work
 *   11 a pause                      somebody wanted it
 *   12 old pending messages         while all of the above is well: unroutable, most likely
 *   13 Redis is away                nothing is lost; sweeping is slower
 */
export function adviceOf(situation: Situation): Advice {
  const found = [
    ofStore(situation),
    ofRabbitmq(situation),
    ofKeys(situation),
    ofDead(situation),
    ...ofBulks(situation),
    ...ofGroups(situation),
    ofParked(situation),
    ...ofSlow(situation),
    ...ofBreakers(situation),
    ...ofIdle(situation),
    ...ofNodes(situation),
    ...ofPauses(situation),
    ofOldPending(situation),
    ofRedis(situation)
  ].filter(piece => piece !== undefined);
  const [first, ...rest] = found;
  if (!first) return { level: "ok", sentence: "Nothing to do.", also: [] };
  return { level: first[0], sentence: first[1], also: rest.map(([, text]) => text) };
}

function ofStore({ store: { name, awaySince, slow }, now }: Situation): Piece {
  if (!awaySince || slow) return undefined;
  return [
    "act",
    `The store (${name}) takes no writes since ${clock(awaySince, now)}: emits that need it are refused, and receipts wait in RabbitMQ. Bring it back; what was promised is kept.`
  ];
}

function ofRabbitmq({ rabbitmq: { awaySince, blocked, slow }, pending, now }: Situation): Piece {
  if (slow !== undefined) return undefined;
  const out = pending.count === undefined ? "what is stored waits and goes out by itself" : goOut(pending);
  if (blocked !== undefined)
    return [
      "act",
      `RabbitMQ takes no publishes since ${clock(awaySince ?? now, now)} (${blocked}); ${out} when it has room again. Give it room.`
    ];
  return awaySince && ["act", `RabbitMQ does not answer since ${clock(awaySince, now)}; ${out}.`];
}

function goOut(pending: Counted): string {
  return `${waiting(pending)} and ${pending.count === 1 ? "goes out by itself" : "go out by themselves"}`;
}

function ofKeys({ keys, now }: Situation): Piece {
  if (!keys?.count || !keys.first) return undefined;
  const { key, group, id, since, behind, capped } = keys.first;
  const others = keys.count - 1;
  const wait = behind ? `, and ${waiting({ count: behind, capped })} behind it` : "";
  const next =
    others || keys.capped
      ? `${others.toLocaleString("en-US")}${keys.capped ? "+" : ""} more ${others === 1 ? "is" : "are"} held. Retry their messages, or skip them: reliable keys`
      : `Retry that message, or: reliable skip ${typed(key)} --note "why"`;
  return [
    "act",
    `Key ${key} is held in ${group} since ${clock(new Date(since), now)} by message ${id}${wait}. ${next}`
  ];
}

/** As the REPL reads it. */
function typed(key: string): string {
  if (/^[\w.,:=/@+-]+$/.test(key)) return key;
  return key.includes('"') ? `'${key}'` : `"${key}"`;
}

function ofDead({ dead, now }: Situation): Piece {
  if (!dead.count) return undefined;
  const where = dead.groups.length ? `: ${listOf(dead.groups)}` : "";
  const since = dead.since ? `, since ${clock(dead.since, now)}` : "";
  return ["act", `${messages(dead)} ${are(dead)} dead${where}${since}. Somebody has to act.`];
}

function ofBulks({ bulks }: Situation): Piece[] {
  return bulks
    .filter(({ state }) => state === "stopped" || state === "failed")
    .map(({ id, act, state, reason }) => [
      "act",
      `The bulk ${act} ${id} has ${state === "failed" ? "failed" : "stopped itself"}${reason ? `: ${reason}` : ""}. Look at why, then begin it again.`
    ]);
}

function ofGroups({ groups, paused, now }: Situation): Piece[] {
  return groups.flatMap(({ group, waits, lastSeenAt }): Piece[] => {
    const halted = waits.filter(({ pattern, lives }) => !lives && !isPaused(paused, group, pattern));
    const since = lastSeenAt ? ` since ${clock(lastSeenAt, now)}` : "";
    const ready = halted.reduce((sum, wait) => sum + (wait.consumers === 0 ? (wait.ready ?? 0) : 0), 0);
    if (ready)
      return [
        [
          "act",
          `Group ${group} has no consumer${since}; ${waiting({ count: ready })} in its queue. Start it; nothing is lost.`
        ]
      ];
    const gone = halted.find(({ known, ready: there }) => known && there === null);
    return gone
      ? [
          [
            "act",
            `Group ${group} has no queue for ${gone.pattern}${lastSeenAt ? `; it was last seen at ${clock(lastSeenAt, now)}` : ""}. Start it, or if it is gone for good: reliable forget ${group}`
          ]
        ]
      : [];
  });
}

function ofParked({ parked }: Situation): Piece {
  if (!parked.count) return undefined;
  return [
    "act",
    `${messages(parked)} could not be read and ${are(parked)} parked. Look at ${parked.count === 1 ? "it" : "them"}: reliable parked`
  ];
}

/** What is connected, and does not answer in time: under load, or away, which is known some seconds later. */
function ofSlow({ store, rabbitmq, now }: Situation): Piece[] {
  const found: Piece[] = [];
  if (store.awaySince && store.slow)
    found.push([
      "watch",
      `The store (${store.name}) answers slowly since ${clock(store.awaySince, now)}: no answer within 1 s. Nothing is lost; what needs it takes longer.`
    ]);
  if (rabbitmq.slow !== undefined)
    found.push([
      "watch",
      `RabbitMQ is connected and answers slowly since ${clock(rabbitmq.awaySince ?? now, now)}: ${rabbitmq.slow}. Nothing is lost; what is to go out waits.`
    ]);
  return found;
}

function ofBreakers({ breakers, now }: Situation): Piece[] {
  return [...new Set(breakers.map(({ group }) => group))].map(group => {
    const open = breakers.filter(breaker => breaker.group === group);
    const since = new Date(Math.min(...open.map(({ sinceAt }) => sinceAt.getTime())));
    return [
      "watch",
      `What group ${group} needs is away since ${clock(since, now)} (on ${listOf(open.map(({ nodeID }) => nodeID))}); its messages wait, lose no attempt, and go on by themselves.`
    ];
  });
}

/** A breaker of a node without a store, which is not asked; or it is just starting. */
function ofIdle({ groups, paused, breakers }: Situation): Piece[] {
  return groups.flatMap(({ group, waits }): Piece[] => {
    if (breakers.some(breaker => breaker.group === group)) return [];
    const idle = waits.filter(({ pattern, lives }) => lives && !isPaused(paused, group, pattern));
    const ready = idle.reduce((sum, wait) => sum + (wait.ready ?? 0), 0);
    return ready
      ? [
          [
            "watch",
            `Group ${group} runs and takes nothing at the moment: its breaker is open, or it is just starting; ${waiting({ count: ready })} in its queue and ${ready === 1 ? "goes on by itself" : "go on by themselves"}. Its log says why.`
          ]
        ]
      : [];
  });
}

function ofNodes({ silentNodes, now }: Situation): Piece[] {
  return silentNodes.map(({ nodeID, since }) => [
    "watch",
    `Node ${nodeID} does not answer since ${clock(since, now)}; the others do its work.`
  ]);
}

function ofPauses({ paused, now }: Situation): Piece[] {
  return paused.map(({ group, pattern, sinceAt, by }) => [
    "watch",
    `Group ${group}${pattern === undefined ? "" : ` (${pattern})`} is paused since ${clock(sinceAt, now)} by ${by}; its messages wait.`
  ]);
}

function ofOldPending({ pending, rabbitmq }: Situation): Piece {
  const { count, oldestMs = 0 } = pending;
  if (!count || oldestMs < OLD_PENDING_MS || rabbitmq.awaySince) return undefined;
  return [
    "watch",
    `${messages(pending)} ${are(pending)} pending, the oldest for ${Math.floor(oldestMs / 60_000).toLocaleString("en-US")} min. See why: reliable list --status pending`
  ];
}

function ofRedis({ redis: { awaySince }, now }: Situation): Piece {
  return (
    awaySince && [
      "watch",
      `Redis does not answer since ${clock(awaySince, now)}; sweeping goes on without a lease, and nothing is lost.`
    ]
  );
}

function isPaused(paused: Paused[], group: string, pattern: string): boolean {
  return paused.some(pause => pauses(pause, { group, pattern }));
}

function messages({ count = 0, capped }: Counted): string {
  return `${count.toLocaleString("en-US")}${capped ? "+" : ""} message${count === 1 ? "" : "s"}`;
}

function waiting(counted: Counted): string {
  return `${messages(counted)} ${counted.count === 1 ? "waits" : "wait"}`;
}

function are({ count }: Counted): string {
  return count === 1 ? "is" : "are";
}

const MAX_NAMED = 3;

function listOf(names: string[]): string {
  const more = names.length - MAX_NAMED;
  return [...names.slice(0, MAX_NAMED), ...(more > 0 ? [`and ${more} more`] : [])].join(", ");
}

/** The time of day, and the day too if that is not today. UTC, as all instants of ours are. */
function clock(at: Date, now: Date): string {
  const [day = "", time = ""] = at.toISOString().split("T");
  const today = now.toISOString().slice(0, 10);
  return `${day === today ? "" : `${day} `}${time.slice(0, 5)} UTC`;
}
