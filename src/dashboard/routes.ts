import { ReliableError } from "../errors";
import type { CallOptions } from "../platform/call";
import { ACT_CALLS, ACTS, type Act, type ActCall, READS } from "./api";
import { type PayloadParts, parkedOne, parkedPage, payloadOf, storyOf } from "./payloads";

/** How a request reaches the service `reliable`: as the user who has logged in. */
export type Ask = (action: string, params: object, options: CallOptions) => Promise<unknown>;

type Params = Record<string, unknown>;

type Read = (params: Params, ask: Ask, payloads: PayloadParts) => Promise<unknown>;

export interface ActRoute {
  /** Throws RELIABLE_BAD_OPTION for what the page may not say. */
  check(body: Params): void;
  /** Which right it needs. */
  right(body: Params, ask: Ask): Promise<Act>;
  answer(body: Params, ask: Ask): Promise<unknown>;
}

/** What may look for long: for 15 s in the store. */
const LONG_READS: ReadonlySet<string> = new Set(["list", "causes", "history"]);
const LONG_MS = 20_000;
const SHORT_MS = 5000;

/** A node that was killed is asked for as long as its heartbeats are waited for. */
const AWAY: ReadonlySet<unknown> = new Set(["REQUEST_TIMEOUT", "REQUEST_REJECTED", "SERVICE_NOT_AVAILABLE"]);

/** Up to 10,000 messages, one by one. What takes longer goes on, and is seen under Acts. Never done again by itself. */
const ACT_OPTIONS: CallOptions = { timeout: 120_000, retries: 0 };

/**
 * Twice: the second time of another node, if there is one, since Moleculer takes them in turn. But for a long one that was
 * waited for to its end: the page has given it up by then, and the store would be asked for nobody.
 */
async function asked(name: string, params: Params, ask: Ask): Promise<Params> {
  const isLong = LONG_READS.has(name);
  const options = { timeout: isLong ? LONG_MS : SHORT_MS, retries: 0 };
  const once = () => ask(`reliable.${name}`, params, options) as Promise<Params>;
  return once().catch((error: { type?: unknown }) => {
    if (!AWAY.has(error?.type) || (isLong && error.type === "REQUEST_TIMEOUT")) throw error;
    return once();
  });
}

/** Where a payload may be in the answer. */
const WITH_PAYLOADS = new Map<string, Read>([
  [
    "get",
    async ({ payload, ...params }, ask, payloads) =>
      storyOf(payloads, await asked("get", params, ask), payload !== false)
  ],
  ["payload", async (params, ask, payloads) => payloadOf(payloads, await asked("get", params, ask))],
  [
    "parked",
    async (params, ask, payloads) => {
      const answer = await asked("parked", params, ask);
      return params["id"] === undefined ? parkedPage(payloads, answer) : parkedOne(payloads, answer);
    }
  ]
]);

export const READ_ROUTES: ReadonlyMap<string, Read> = new Map(
  READS.map(name => [name, WITH_PAYLOADS.get(name) ?? ((params, ask) => asked(name, params, ask))])
);

export const ACT_ROUTES: ReadonlyMap<string, ActRoute> = new Map(
  ACT_CALLS.map(name => [
    name,
    {
      check: body => checkBody(name, body),
      right: (body, ask) => rightOf(name, body, ask),
      answer: (body, ask) => ask(`reliable.${name}`, body, ACT_OPTIONS)
    }
  ])
);

/** Params of actions that are not the page's to say, and why. */
const REFUSED = new Map([
  ["by", "who acts is who has logged in"],
  ["force", "it is for the REPL"]
]);

function checkBody(name: ActCall, body: Params): void {
  for (const [param, why] of REFUSED)
    if (Object.hasOwn(body, param)) throw refused(name, param, `has no '${param}' here: ${why}`);
  const { dryRun, note } = body;
  // Of a bulk act it is known why: its beginning says it.
  if (dryRun === true || name === "bulkChange") return;
  if (typeof note !== "string" || note.trim() === "") throw refused(name, "note", "needs a 'note': why it is done");
}

async function rightOf(name: ActCall, body: Params, ask: Ask): Promise<Act> {
  if (name === "skip") return "resolve";
  if (name !== "bulk" && name !== "bulkChange") return name;
  // Whoever may not see one bulk act may see none, so that it is told whether there is one tells nothing.
  const { act } = name === "bulk" ? body : await asked("bulks", { id: body["id"] }, ask);
  const known = ACTS.find(each => each === act);
  if (known === undefined) throw refused(name, "act", `is of an act: ${ACTS.join(", ")}`);
  return known;
}

function refused(name: ActCall, option: string, text: string): ReliableError {
  return new ReliableError("RELIABLE_BAD_OPTION", `'${name}' ${text}.`, { option });
}
