/** Texts of what all pages are made of. */
export const kit = {
  noAnswer: "The dashboard's server does not answer. The page asks again by itself.",
  noAnswerWithin: (ms: number) => `The dashboard's server has not answered within ${ms / 1000} s.`,
  notJson: (status: number) =>
    `The answer (HTTP ${status}) is not from the dashboard: a login or a proxy stands before it. Reload the page.`,
  status: (status: number) => `HTTP ${status}, without a reason.`,
  loading: "Loading …",
  again: "Try again",
  cancel: "Cancel",
  close: "Close",
  copy: "Copy",
  copied: "Copied",
  notCopied: "Not copied: select it by hand",
  showMore: (left: string) => `Show more (${left})`,
  showLess: "Show less",
  showTable: "Show as table",
  hideTable: "Hide table",
  notKnown: "not known",
  none: "–",
  ago: (age: string) => `${age} ago`,
  time: "Time",
  lastValue: (at: string) => `at ${at}`,
  /** What an operator does about an error of the server. */
  toDo: {
    NETWORK: "Look whether the node that serves the page is up, and whether you can reach it.",
    NO_JSON: "Reload the page; you may have to log in anew.",
    RELIABLE_NOT_FOUND: "It is gone: consumed and pruned, discarded, or in another namespace.",
    RELIABLE_ILLEGAL_TRANSITION: "Somebody or something has changed it meanwhile. Look at it anew.",
    RELIABLE_GROUP_ACTIVE: "The group still has consumers. Stop its services first.",
    RELIABLE_BULK_RUNNING: "The same is already under way: see Acts.",
    RELIABLE_UNAVAILABLE: "The store or RabbitMQ does not answer: see Servers and nodes.",
    SERVICE_NOT_FOUND: "No node of the cluster has a store, or none can be reached from here.",
    SERVICE_NOT_AVAILABLE: "No node with a store can be reached at the moment.",
    REQUEST_TIMEOUT: "A node or a server answers slowly: see Servers and nodes."
  } as Readonly<Record<string, string>>,
  unauthorized: "You are not logged in (any more). Reload the page.",
  forbidden: "Your login may not do this."
};
