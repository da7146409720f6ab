/** The options of the command `reliable`, by the names of the params they become: how they are typed, and what for. */
export const FLAGS = {
  status: { option: "-s, --status <status>", description: "Only messages of this status, or of several: dead,pending" },
  event: { option: "-e, --event <event>", description: "Only messages of this event" },
  group: { option: "-g, --group <group>", description: "Only messages this group waits for, has failed or handled" },
  producer: { option: "-p, --producer <service>", description: "Only messages emitted by this service" },
  olderThanMs: { option: "--older-than-ms <ms>", description: "Only messages older than this" },
  youngerThanMs: { option: "--younger-than-ms <ms>", description: "Only messages younger than this" },
  page: { option: "--page <number>", description: "Page of a list, from 1" },
  pageSize: { option: "--page-size <number>", description: "Rows of a page, 1 to 500; 20 without it" },
  note: {
    option: "-n, --note <text>",
    description: "Why, up to 2000 characters; kept on the message (retry, resolve, discard, forget)"
  },
  by: { option: "--by <name>", description: "Who; kept on the message" },
  dryRun: { option: "--dry-run", description: "Only tell what would be done" },
  limit: {
    option: "--limit <number>",
    description: "Act on so many messages at most, 1 to 10000; without it 100 of a filter, and all ids"
  },
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
