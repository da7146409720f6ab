import type { PageName } from "../kit/route-text";

/** Texts of the frame around all pages. */
export const shell = {
  product: "Reliable events",
  skip: "Skip to the content",
  nav: "Pages",
  pages: {
    overview: "Overview",
    dead: "Dead",
    keys: "Held keys",
    messages: "Messages",
    message: "Message",
    groups: "Groups",
    servers: "Servers and nodes",
    parked: "Parked",
    acts: "Acts"
  } satisfies Record<PageName, string>,
  namespace: "Namespace",
  /** Moleculer's namespace is empty, where none is set. */
  noNamespace: "(none)",
  user: (name: string) => `Logged in as ${name}`,
  anonymous: "Nobody has to log in",
  readOnly: "Read-only",
  readOnlyNote: "look, and change nothing",
  readOnlyReason: "You may look, and change nothing.",
  mayNot: (act: string) => `Your login may not ${act}.`,
  rightsUnknown: "It is not known yet what you may do.",
  servedBy: (nodeID: string, version: string) => `moleculer-reliable-emit ${version}, served by ${nodeID}.`,
  times: (zone: string) =>
    zone === "UTC"
      ? "Times are UTC."
      : `Times are ${zone}, as your browser's; with a pointer on one it is told in UTC, as logs have it.`,
  unknownPage: (name: string) => `There is no page "${name}". This is the overview.`,
  pause: "Pause updates",
  resume: "Resume updates",
  updated: "updated",
  paused: "paused",
  /** Of which time what is shown is. */
  of: "as of",
  stale: "stale since",
  /** As screen readers say it. */
  noAnswerSince: (at: string) => `No answer since ${at}.`,
  answersAgain: "Answers come again.",
  waiting: "waiting for an answer"
};
