/** The options of the command `reliable`, by the names of the params they become: how they are typed, and what for. */
export const FLAGS = {
  status: { option: "-s, --status <status>", description: "Only messages of this status, or of several: dead,pending" },
  event: { option: "-e, --event <event>", description: "Only messages of this event" },
  group: {
    option: "-g, --group <group>",
    description: "Only messages of this group; of an act: that have failed in it"
  },
  producer: { option: "-p, --producer <service>", description: "Only messages emitted by this service" },
  olderThanMs: { option: "--older-than-ms <ms>", description: "Only messages older than this" },
  youngerThanMs: { option: "--younger-than-ms <ms>", description: "Only messages younger than this" },
  idPrefix: { option: "--id-prefix <text>", description: "Only messages whose id begins so, in the order of ids" },
  requestId: { option: "--request-id <id>", description: "Only messages emitted in this request" },
  key: { option: "-k, --key <name=value>", description: "Only messages with this key: order=42; of several all" },
  errorType: {
    option: "--error-type <type>",
    description: "Only dead messages of which a group has failed with an error of this type, code or name"
  },
  cause: {
    option: "--cause <cause>",
    description: "Only dead messages with this cause: handler, silence, rejected, …"
  },
  errorText: { option: "--error-text <text>", description: "Only dead messages with this error, as causes shows it" },
  deadFromAt: {
    option: "--dead-from-at <instant>",
    description: "Only messages that died then or later (ISO, UTC without a zone)"
  },
  deadToAt: {
    option: "--dead-to-at <instant>",
    description: "Only messages that died before then (ISO, UTC without a zone)"
  },
  cursor: { option: "--cursor <cursor>", description: "The next page of a list: what the one before has told" },
  fromAt: {
    option: "--from-at <instant>",
    description: "From then on: 2026-11-26T03:00Z (UTC without a zone), or ms since 1970"
  },
  toAt: { option: "--to-at <instant>", description: "Until then; until now without it" },
  stepMs: { option: "--step-ms <ms>", description: "Sums of so long each: whole minutes" },
  page: { option: "--page <number>", description: "Page of a list, from 1" },
  pageSize: { option: "--page-size <number>", description: "Rows of a page, 1 to 500; 20 without it" },
  note: {
    option: "-n, --note <text>",
    description:
      "Why, up to 2000 characters; kept with the act. Resolve, discard, cancel, skip, forget and pause need it"
  },
  by: { option: "--by <name>", description: "Who; kept with the act" },
  dryRun: { option: "--dry-run", description: "Only tell what would be done" },
  limit: {
    option: "--limit <number>",
    description:
      "Act on so many messages at most, 1 to 10000, at once; without it all that match, in the background. Causes: look at so many of the newest dead ones; at 1000 without it"
  },
  yes: { option: "--yes", description: "Do not ask; needed where there is no terminal" },
  perSecond: {
    option: "--per-second <number>",
    description: "Of a filter: so many messages per second, 1 to 10000; 100 without it"
  },
  again: { option: "--again", description: "Replay: what the group has handled is handled once more" },
  id: { option: "--id <id>", description: "Of the bulk act" },
  parked: { option: "--parked", description: "Discard parked messages: the ids are theirs" },
  force: { option: "--force", description: "Forget: delete the group's queue although it holds messages" },
  node: { option: "--node <nodeID>", description: "Ask this node" }
} as const satisfies Record<string, { option: string; description: string }>;

export type FlagName = keyof typeof FLAGS;

/** `pageSize`: --page-size */
export function flagOf(name: string): string {
  const dashes = name.length === 1 ? "-" : "--";
  return dashes + name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`);
}

/** The name of the param behind a flag: what is not known comes as it was typed. */
export function paramOf(flag: string): string {
  return flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
