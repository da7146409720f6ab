import { counted } from "../kit/format";

/** Texts of the page about held keys. */
export const keys = {
  title: "Held keys",
  lead: "Messages with one order key reach a group one after the other. One that has failed for good holds its key there: those behind it wait until it is handled, or somebody acts.",
  none: "No key is held.",
  notHeld: (key: string) => `The key ${key} is not held.`,
  all: "All held keys",
  more: "There are more: these are held longest.",
  retry: (id: string) => `Retry ${id}`,
  retryShort: "Retry",
  skip: (key: string, group: string) => `Skip ${key} in ${group}`,
  skipShort: "Skip",
  cols: {
    key: "Key",
    group: "Group",
    id: "Message",
    event: "Event",
    since: "Since",
    behind: "Behind",
    reason: "Why",
    acts: "Acts"
  },
  dialog: {
    title: (key: string) => `Skip what holds ${key}?`,
    submit: "Skip 1 message",
    holds: "holds the key in",
    since: "since",
    behind: (n: number, capped?: boolean) =>
      n ? `${counted(n, "message waits", "messages wait", capped)} behind it.` : "Nobody waits behind it.",
    meaning:
      "It is resolved: it will not be sent again to a group that has failed it, and the next of the key gets its turn.",
    why: "Why does the key go on without it?",
    gone: "It does not hold the key any more."
  }
};
