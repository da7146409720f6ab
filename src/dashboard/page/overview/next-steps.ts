import type { Answer } from "../kit/api-types";
import { counted } from "../kit/format";
import type { GivenParams, PageName } from "../kit/route-text";
import { overview as words } from "../texts/overview";

export type Overview = Answer<"overview">;

export interface NextStep {
  text: string;
  page: PageName;
  params?: GivenParams;
}

/** Where to go from the sentence: the pages on which something can be done about it, in its order. */
export function nextSteps({ messages, groups, servers, nodes, bulks, paused, breakers, keys }: Overview): NextStep[] {
  const { byStatus, parked = 0, capped = [] } = messages ?? {};
  const dead = byStatus?.dead ?? 0;
  const halted = groups.some(({ queues }) => queues.some(({ ready, consumers }) => ready && consumers === 0));
  // Redis and single nodes harm nothing: they are looked at last.
  const halts = servers.some(({ name, ok }) => !ok && name !== "Redis");
  const limps = servers.some(({ ok }) => !ok) || nodes.some(({ answers }) => answers === false);
  const seeServers = { text: words.seeServers, page: "servers" as const };
  const ended = bulks.filter(({ state }) => state === "stopped" || state === "failed");
  return [
    ...(halts ? [seeServers] : []),
    ...(keys?.held
      ? [
          {
            text: words.seeKeys(counted(keys.held, "held key", "held keys", keys.capped.includes("held"))),
            page: "keys" as const
          }
        ]
      : []),
    ...(dead
      ? [{ text: words.seeDead(counted(dead, "message", "messages", capped.includes("dead"))), page: "dead" as const }]
      : []),
    ...ended.map(({ id, act }) => ({ text: words.seeBulk(act), page: "acts" as const, params: { bulk: id } })),
    ...(halted || paused.length || breakers.length ? [{ text: words.seeGroups, page: "groups" as const }] : []),
    ...(parked ? [{ text: words.seeParked, page: "parked" as const }] : []),
    ...(limps && !halts ? [seeServers] : [])
  ];
}

export interface Count {
  name: string;
  value: number | null;
  capped: boolean;
  /** In ms. */
  oldestMs: number | null;
  page: PageName;
  params?: GivenParams;
  /** Above none, somebody has to act. */
  urgent: boolean;
}

/** The live ones first: those that somebody has to act on, those under way, then what is finished. */
export function countsOf(messages: Overview["messages"]): Count[] {
  const status = (
    name: keyof NonNullable<Overview["messages"]>["byStatus"],
    oldestMs: number | null = null
  ): Count => ({
    name: words.statuses[name],
    value: messages?.byStatus[name] ?? null,
    capped: messages?.capped.includes(name) ?? false,
    oldestMs,
    urgent: name === "dead",
    ...(name === "dead" ? { page: "dead" as const } : { page: "messages" as const, params: { status: name } })
  });
  return [
    status("dead", messages?.oldestDeadMs),
    {
      name: words.parked,
      value: messages?.parked ?? null,
      capped: messages?.capped.includes("parked") ?? false,
      oldestMs: null,
      page: "parked",
      urgent: true
    },
    status("pending", messages?.oldestPendingMs),
    status("published", messages?.oldestUnconsumedMs),
    status("scheduled"),
    status("intended"),
    status("consumed"),
    status("resolved"),
    status("withdrawn"),
    status("cancelled")
  ];
}
