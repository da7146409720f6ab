import { count } from "../kit/format";
import type { FilterAct, OneAct } from "./shapes";

/** Texts of acts. Names of buttons and headings stay as they are: tests find by them. */

/** `1 message`, `4,312 messages`. */
export const messages = (n: number, capped?: boolean) =>
  `${count(n, capped)} ${n === 1 && !capped ? "message" : "messages"}`;

const VERB: Record<OneAct, string> = { retry: "Retry", resolve: "Resolve", discard: "Discard", cancel: "Call off" };

export const verb = (act: FilterAct): string => VERB[act];

export const actTexts = {
  why: "Why",
  whyHint: "Kept with the act, for those who come after you.",
  whyMissing: "Say why: it is kept with the act.",
  as: "as",
  asNobody: "nobody has logged in: recorded as an act of this dashboard's node",
  typed: (what: string) => `Type ${what} to confirm`,
  typedWrong: (what: string) => `This is not ${what}.`,
  working: "Working …",
  counting: "Counting …",
  loading: "Loading …",
  notCounted: "It could not be counted.",
  nothingLeft: "Nothing matches (any more).",
  notKnown: "It is not known whether it was done. Look under Acts before you do it again.",
  show: "Show",
  nobodyElse: "Who has changed it stands in its timeline.",

  one: {
    title: (act: OneAct, id: string) => `${VERB[act]} ${id}?`,
    submit: (act: OneAct) => `${VERB[act]} 1 message`,
    again: "It goes again to:",
    not: "Not to:",
    nobody: "nobody",
    resolve: "It will not be sent again. Has it been dealt with in another way?",
    resolveWhy: "How was it dealt with?",
    discard: "It is deleted for ever. A record of it stays, without its payload.",
    cancel: "It is not sent, to nobody. It cannot be brought back: it would have to be emitted again.",
    sendAt: "It is to be sent at",
    event: "Event",
    notScheduled: (status: string) => `It is ${status} now: only what is still scheduled can be called off.`,
    notDead: (status: string) => `It is ${status} now: only dead messages can be retried, resolved or discarded.`
  },
  some: {
    title: (act: FilterAct, n: number) => `${VERB[act]} ${messages(n)}?`,
    submit: (act: FilterAct, n: number) => `${VERB[act]} ${messages(n)}`,
    submitTicked: (act: FilterAct, n: number) => `${VERB[act]} ${n ? `${count(n)} ` : ""}ticked`,
    retry: "Each goes again to the groups that have failed, and to no other.",
    resolve: "They will not be sent again. Have they been dealt with in another way?",
    discard: "They are deleted for ever. A record of each stays, without its payload.",
    result: (done: number, all: number, what: string) => `${count(done)} of ${count(all)} ${what}.`,
    done: { retry: "sent again", resolve: "resolved", discard: "deleted" } satisfies Record<FilterAct, string>,
    left: "Left alone"
  },
  all: {
    title: (act: FilterAct, which: string) => `${VERB[act]} ${which}?`,
    which: (n: number, capped: boolean | undefined, others: boolean) =>
      n === 1 && !capped
        ? "the one message that matches"
        : others
          ? `the other ${messages(n, capped)}`
          : `all ${messages(n, capped)}`,
    submit: (act: FilterAct, n: number, capped?: boolean) => `${VERB[act]} ${messages(n, capped)}`,
    submitNone: (act: FilterAct) => `${VERB[act]} messages`,
    filter: "Dead messages",
    rate: "Per second, at most",
    rateWrong: "A number from 1 to 10,000.",
    about: (time: string) => `about ${time}`,
    later: "What dies from now on is left alone.",
    itself: "It stops by itself if many are dead again.",
    waiting: (n: number) => `${messages(n)} more wait for other groups and are not discarded.`,
    running: (by: string, at: string) => `Already running, started by ${by} at ${at}.`,
    showRunning: "Show its progress",
    recount: "Count again"
  },
  pause: {
    title: (group: string) => `Pause group ${group}?`,
    submit: (group: string) => `Pause group ${group}`,
    text: "It takes nothing until somebody resumes it, on all nodes and across restarts. Handlers that run end as usual. Its messages wait in its queues; nothing fails.",
    queues: "Queues that pile up",
    ready: (n: number | null) => (n === null ? "not known" : `${count(n)} ready`),
    consumers: (n: number | null) =>
      n === null ? "consumers not known" : `${count(n)} ${n === 1 ? "consumer" : "consumers"}`,
    lastOn: "last on",
    done: (group: string) => `Group ${group} is paused.`,
    left: (n: number) => `${count(n)} ${n === 1 ? "consumer is" : "consumers are"} left: handlers that still run.`,
    notMarked: "RabbitMQ does not answer: it is told when it does."
  },
  resume: {
    title: (group: string) => `Resume group ${group}?`,
    submit: (group: string) => `Resume group ${group}`,
    text: "It takes messages again, on all nodes.",
    done: (group: string) => `Group ${group} takes messages again.`
  },
  forget: {
    title: (group: string) => `Forget group ${group}?`,
    submit: (group: string) => `Forget group ${group}`,
    text: "For a group that is gone for good: what waits for it alone is freed, and its queues are deleted if they are empty.",
    freed: (n: number) => `${messages(n)} will not wait for it any more.`,
    queue: (queue: string, ready: number) =>
      ready ? `${queue}: ${count(ready)} in it, so it stays, unbound` : `${queue}: deleted`,
    living: (queue: string, n: number) =>
      `${queue} is in use (${n ? `${count(n)} ${n === 1 ? "consumer" : "consumers"}` : "a process that takes nothing now"}): it stays. Stop its services first.`,
    queues: "Its queues",
    done: (n: number) => `Forgotten. ${messages(n)} no longer wait for it.`
  },
  replay: {
    title: (group: string) => `Replay to group ${group}?`,
    submit: (n: number, capped?: boolean) => `Replay ${messages(n, capped)}`,
    submitNone: "Replay messages",
    text: "Kept messages, finished ones too, are sent to this group alone. What it has handled is not handled again.",
    from: "Emitted from",
    to: "Emitted before (empty: now)",
    event: "Event (empty: all that it takes)",
    again: "Also what it has handled: it is handled once more",
    count: "Count",
    fromMissing: "Say from when.",
    notCounted: "Count first: what you see is what is sent.",
    done: "It has begun.",
    showProgress: "Show its progress"
  },
  sweep: {
    title: "Sweep now?",
    submit: "Sweep now",
    text: "One pass over what is due, at once. Nothing is harmed by one too many.",
    done: "Swept.",
    nothing: "Swept: nothing was due.",
    asked: "The node that sweeps was asked for it."
  },
  erase: {
    open: "Erase payloads",
    title: (key: string) => `Erase the payloads of ${key}?`,
    submit: "Erase payloads",
    text: "Payloads, meta, headers and texts of errors of all finished messages with this key are deleted for ever. Their rows stay.",
    would: (n: number, capped?: boolean) => `${messages(n, capped)} would lose the payload.`,
    done: (n: number) => `${messages(n)} have lost the payload.`,
    already: (n: number) => `${messages(n)} had none any more.`,
    left: (n: number, status: string, why: string) => `${messages(n)} (${status}) keep it: ${why}.`
  },
  parked: {
    title: (id: string) => `Discard parked ${id}?`,
    submit: "Discard 1 parked message",
    text: "It is deleted for ever, with its bytes. A record of it stays."
  },
  bulk: {
    heading: { retry: "Retry", resolve: "Resolve", discard: "Discard", replay: "Replay" } as Readonly<
      Record<string, string>
    >,
    startedBy: (by: string, at: string) => `started by ${by} at ${at}`,
    slower: "Slower",
    faster: "Faster",
    slowerTo: (rate: number) => `Slower: ${count(rate)} per second`,
    fasterTo: (rate: number) => `Faster: ${count(rate)} per second`,
    slowest: "It cannot go slower: pause it.",
    fastest: "It cannot go faster.",
    pause: "Pause",
    resume: "Resume",
    stop: "Stop",
    stopTitle: "Stop it for good?",
    stopText: (left: number | undefined) =>
      `${left === undefined ? "What is left" : `${messages(left)} that ${left === 1 ? "is" : "are"} left`} will stay dead. A stopped act cannot be resumed; pause it if you are not sure.`,
    stopTextReplay: "What is left is not sent. A stopped act cannot be resumed; pause it if you are not sure.",
    stopWhy: "Why (may be empty)",
    copy: "Copy summary",
    showDead: (n: number) => `Show the ${count(n)} dead again`,
    progress: "Progress",
    changes: "What was done with it meanwhile",
    record: "Its record",
    states: {
      running: "running",
      paused: "paused",
      stopping: "stopping",
      stopped: "stopped",
      done: "done",
      failed: "failed"
    } as Readonly<Record<string, string>>
  }
};
