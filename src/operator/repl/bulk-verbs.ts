import { ReliableError } from "../../errors";
import { alreadyRunning, type BulkBegun, checkNote } from "../bulk/bulk";
import type { BulkRow, BulkStory } from "../bulk/bulk-views";
import { hasFilter } from "../filter";
import type { Page } from "../operations";
import { barText, bulkTable, bulkText, doneWord } from "./bulk-tables";
import type { Call } from "./call";
import { errorText } from "./error-text";
import type { Terminal } from "./terminal";

type Act = "retry" | "resolve" | "discard" | "replay";

/** A store that is asked more often than this shows nothing more. */
const SHOWN_EVERY_MS = 1000;

const CHANGES = ["pause", "resume", "stop", "rate"];

/** By a filter and without a limit: all that matches, in the background. */
export function isBulk({ id, ids, parked, limit, ...params }: Record<string, unknown>): boolean {
  return id === undefined && ids === undefined && !parked && limit === undefined && hasFilter(params);
}

/** Counts, asks, begins, and shows how it goes until it ends or is left. */
export async function runBulk(
  act: Act,
  call: Call,
  { yes, ...params }: Record<string, unknown>,
  terminal: (() => Terminal | undefined) | undefined
): Promise<string> {
  const { dryRun } = params;
  // Nobody is asked about what would be refused.
  if (!dryRun) checkNote(act, params);
  const counted = await begin(act, call, { ...params, dryRun: true });
  const { matched, capped, waiting = 0, text, countedAt, underWay } = counted;
  const many = `${matched.toLocaleString("en-US")}${capped ? "+" : ""}`;
  const running = underWay && alreadyRunning(act, underWay);
  if (dryRun)
    return [`Dry run: ${many} message(s) would be ${doneWord(act)}.`, text, ...(running ? [running.message] : [])].join(
      "\n"
    );
  if (!matched && !capped)
    return waiting
      ? `${waiting} message(s) are still on their way to other groups, and were not discarded.`
      : act === "replay"
        ? text
        : "No such messages.";
  if (running) throw running;
  const open = terminal?.();
  try {
    if (!yes && !open)
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        `${text}\nNothing was done: there is no terminal to ask in, so it needs --yes.`,
        { option: "yes" }
      );
    if (!yes && !(await open?.ask(`${text}\nGo on? (y/N)`))) return "Nothing was done.";
    let id: string | undefined;
    try {
      // What has been read is what is done, however long it was looked at.
      ({ id } = await begin(act, call, { ...params, ...(countedAt && { countedAt }) }));
    } catch (thrown) {
      if (!isUnknown(thrown)) throw thrown;
      return `${errorText(thrown)}\nIt is not known whether it has begun; see: reliable bulks`;
    }
    if (id === undefined) return "No such messages.";
    return open ? await watch(call, id, open) : `Begun: ${id}\n${lookAt(id)}`;
  } finally {
    open?.close();
  }
}

/** The call was made, and nobody has refused it. */
function isUnknown(thrown: unknown): boolean {
  const { type = "", retryable } = (thrown ?? {}) as { type?: string; retryable?: boolean };
  return retryable !== false && !/^SERVICE_NOT_/.test(type);
}

/** Only a replay is an action of its own. */
function begin(act: Act, call: Call, params: Record<string, unknown>): Promise<BulkBegun> {
  return act === "replay" ? call<BulkBegun>("replay", params) : call<BulkBegun>("bulk", { act, ...params });
}

const lookAt = (id: string) => `How it goes: reliable bulk ${id}\nStop it:     reliable bulk stop ${id}`;

async function watch(call: Call, id: string, terminal: Terminal): Promise<string> {
  for (;;) {
    let story: BulkStory;
    try {
      story = await call<BulkStory>("bulks", { id });
    } catch (thrown) {
      // It is in the store, and needs nobody who looks.
      return `${errorText(thrown)}\nIt cannot be shown now. It goes on, as soon as it can.\n${lookAt(id)}`;
    }
    terminal.show(barText(story));
    if (story.endedAt !== undefined) return bulkText(story);
    if (await terminal.wait(SHOWN_EVERY_MS)) return `It goes on.\n${lookAt(id)}`;
  }
}

export async function listBulks(call: Call, params: Record<string, unknown>): Promise<string> {
  return bulkTable(await call<Page<BulkRow>>("bulks", params));
}

/** One, or what is to be done with it: `bulk <id>`, `bulk --id <id>`, `bulk pause <id>`, `bulk pause --id <id>`. */
export async function oneBulk(
  call: Call,
  { words = [], id: flag, ...params }: Record<string, unknown> & { words?: string[] }
): Promise<string> {
  const [first, second] = words;
  const change = first !== undefined && CHANGES.includes(first) ? first : undefined;
  const id = (change === undefined ? first : second) ?? flag;
  if (id === undefined)
    throw new ReliableError("RELIABLE_BAD_OPTION", "'reliable bulk' needs an id; all of them: reliable bulks.", {
      option: "id"
    });
  if (change === undefined && second !== undefined)
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `'reliable bulk' does not know what '${first}' is for. There are: ${CHANGES.join(", ")}.`,
      { option: "change" }
    );
  return bulkText(
    change === undefined
      ? await call<BulkStory>("bulks", { id })
      : await call<BulkStory>("bulkChange", { id, change, ...params })
  );
}
