import { ReliableError } from "../../errors";
import { refusedError } from "../../message/last-error";
import { STATUS } from "../../message/lifecycle";
import {
  type Failure,
  type FailureError,
  LAST_ERRORS_KEPT,
  type LastError,
  NOTES_KEPT,
  type Note
} from "../../message/message";
import type { Order } from "../../message/order";
import type { DeadMessage } from "../store-records";
import type { Attempted, Change, Collection, Count, Database, Doc, Filter, Operation, Page } from "./collection";
import { CLOSED, DUE, lastErrorsKept } from "./rows";

type Refusal = Attempted["refused"][number];

/** `dead`: the message that became dead by it. */
export type RefusedListener = (error: ReliableError, dead?: DeadMessage) => void;

/** A row that takes no change is left alone for so long: an operator may have mended by then what refuses it. */
const LEFT_ALONE_MS = 600_000;

/** With so many such rows something is wrong with the collection, and none is looked for. */
const MAX_LEFT_ALONE = 5000;

/** Of those that a filter alone names; the others come by themselves. */
const MAX_APART = 1000;

/** Characters of a text in the short form. */
const SHORT = 100;

/** Characters of why a message is dead. */
const MAX_REASON = 300;

/**
 * The collection of messages, in which a change that the database refuses for what it is (it does not fit, a validator,
 * an index of the operator's) takes along no other. It is made in a short form; if that is refused too the message is
 * made `dead` by a write as small as can be; if that is refused as well the row is left alone. What a message that is
 * not open does not take is not written: it ends as a human has left it, or finds it. Each is told; whoever has a note to
 * leave is told by a rejection.
 */
export class GuardedMessages implements Collection {
  readonly #listeners = new Set<RefusedListener>();
  /** Told already, by id, and until when that holds. */
  readonly #told = new Map<string, number>();
  /** Takes no change, by id, and until when. */
  readonly #leftAlone = new Map<string, number>();

  constructor(private readonly db: Database) {}

  get #messages(): Collection {
    return this.db.collections.messages;
  }

  onRefused(listener: RefusedListener): void {
    this.#listeners.add(listener);
  }

  /** For the search for what is due; undefined = no use in looking. */
  searched(): Filter | undefined {
    const now = this.db.now().getTime();
    for (const [id, until] of this.#leftAlone) if (until <= now) this.#leftAlone.delete(id);
    if (this.#leftAlone.size >= MAX_LEFT_ALONE) return undefined;
    return this.#leftAlone.size ? { _id: { $nin: [...this.#leftAlone.keys()] } } : {};
  }

  insert(docs: Doc[]): Promise<boolean[]> {
    return this.#messages.insert(docs);
  }

  insertEach(docs: Doc[]): Promise<(boolean | ReliableError)[]> {
    return this.#messages.insertEach(docs);
  }

  find(filter: Filter, page?: Page): Promise<Doc[]> {
    return this.#messages.find(filter, page);
  }

  count(filter: Filter, limit: number): Promise<Count> {
    return this.#messages.count(filter, limit);
  }

  estimate(): Promise<number> {
    return this.#messages.estimate();
  }

  remove(filter: Filter): Promise<number> {
    return this.#messages.remove(filter);
  }

  update(filter: Filter, change: Change): Promise<number> {
    return this.bulk([{ filter, change, many: true }]);
  }

  async attempt(operations: Operation[]): Promise<Attempted> {
    return { matched: await this.bulk(operations), refused: [] };
  }

  async bulk(operations: Operation[]): Promise<number> {
    const wanted = this.#leftAlone.size
      ? operations.flatMap(operation => this.#withoutLeftAlone(operation))
      : operations;
    const { matched, refused } = await this.#messages.attempt(wanted);
    return refused.length ? matched + (await this.#apart(refused)) : matched;
  }

  /** A later step of a verb relies on the ones before it, and one of them was not made. */
  #withoutLeftAlone(operation: Operation): Operation[] {
    const now = this.db.now().getTime();
    const ids = idsIn(operation);
    const free = ids.filter(id => (this.#leftAlone.get(String(id)) ?? 0) <= now);
    if (free.length === ids.length) return [operation];
    return free.length ? [{ ...operation, filter: { ...operation.filter, _id: { $in: free } } }] : [];
  }

  async #apart(refused: Refusal[]): Promise<number> {
    const single: Operation[] = [];
    for (const { operation } of refused) single.push(...(await this.#ofEach(operation)));
    const { matched, refused: each } = await this.#messages.attempt(single);
    let sum = matched;
    let thrown: ReliableError | undefined;
    for (const refusal of each) {
      const made = await this.#smaller(refusal);
      if (made instanceof Error) thrown ??= made;
      else sum += made;
    }
    if (thrown) throw thrown;
    return sum;
  }

  /** A statement for many messages ends at the first one that is refused. */
  async #ofEach({ filter, ...operation }: Operation): Promise<Operation[]> {
    const ids =
      filter._id === undefined
        ? (await this.#messages.find(filter, { fields: ["_id"], limit: MAX_APART })).map(({ _id }) => _id)
        : idsIn({ filter, ...operation });
    return ids.map(_id => ({ ...operation, filter: { ...filter, _id } }));
  }

  /** How many it has changed; an error for a human whose act changed nothing. */
  async #smaller({ operation, error }: Refusal): Promise<number | ReliableError> {
    const id = String(operation.filter._id);
    const change = shortened(operation.change);
    if (change) {
      const { matched, refused } = await this.#messages.attempt([{ ...operation, change }]);
      if (!refused.length) {
        if (matched) this.#tellOnce(this.#told, id, about(id, "What was to be written is written short.", error));
        return matched;
      }
    }
    if (await this.#makeDead(id, error)) return 0;
    const nothing = about(id, "Nothing was written.", error);
    if (isOfHuman(operation.change)) return nothing;
    this.#tellOnce(this.#told, id, nothing);
    return 0;
  }

  /** False = it is not open. */
  async #makeDead(id: string, error: ReliableError): Promise<boolean> {
    const filter = { _id: id, ...DUE };
    const [row] = await this.#messages.find(filter, { fields: ["waiting", "failed", "order"] });
    if (!row) return false;
    const { waiting, failed } = row as { waiting?: unknown; failed?: unknown };
    const owed = [...new Set([waiting, failed].flatMap(list => (Array.isArray(list) ? (list as string[]) : [])))];
    const reason = `refused by the store: ${error.message}`.slice(0, MAX_REASON);
    const at = this.db.now();
    const order = row.order as Order | undefined;
    const holds = order && order.onDead !== "skip" ? { holds: order.key } : {};
    const $set = { status: STATUS.dead, at, reason, waiting: [], failed: owed, ...holds };
    const lastErrors = owed.slice(-LAST_ERRORS_KEPT).map(group => refusedError(group, error.message, at));
    const dying: Change[] = [
      { $set: { ...$set, lastErrors }, $unset: CLOSED },
      // Its story makes room for it.
      {
        $set: { ...$set, reason: reason.slice(0, SHORT), lastErrors: lastErrors.slice(-1) },
        $unset: { ...CLOSED, next: true, failures: true }
      }
    ];
    for (const change of dying) {
      const { matched, refused } = await this.#messages.attempt([{ filter, change }]);
      if (matched) {
        this.#note(this.#told, id);
        this.#tell(about(id, "It is dead.", error), { id, reason, cause: "refused" });
      }
      if (!refused.length) return matched > 0;
    }
    const until = LEFT_ALONE_MS / 60_000;
    this.#tellOnce(
      this.#leftAlone,
      id,
      about(id, `Its row takes no change at all and is left alone for ${until} minutes.`, error)
    );
    return true;
  }

  #tellOnce(told: Map<string, number>, id: string, error: ReliableError): void {
    if ((told.get(id) ?? 0) <= this.db.now().getTime()) this.#tell(error);
    this.#note(told, id);
  }

  #note(told: Map<string, number>, id: string): void {
    const [oldest] = told.keys();
    if (told.size >= MAX_LEFT_ALONE && !told.has(id)) told.delete(oldest as string);
    told.set(id, this.db.now().getTime() + LEFT_ALONE_MS);
  }

  #tell(error: ReliableError, dead?: DeadMessage): void {
    for (const listener of this.#listeners) listener(error, dead);
  }
}

function about(id: string, what: string, cause: ReliableError): ReliableError {
  const text = `The store refuses a change of message ${id}. ${what} ${cause.message}`;
  return new ReliableError("RELIABLE_STORE_REFUSED", text, { ...cause.data, id }, cause);
}

function idsIn({ filter }: Operation): unknown[] {
  return (filter._id as { $in?: unknown[] } | undefined)?.$in ?? [filter._id];
}

/** The same with short texts, and with one failure instead of all that were kept. Undefined = it replaces them anyway. */
function shortened({ $push, ...change }: Change): Change | undefined {
  if (change.$set?.failures || change.$unset?.failures) return undefined;
  const failures = pushed<Failure>($push?.failures).map(shortFailure);
  const notes = pushed<Note>($push?.notes).map(shortNote);
  const errors = pushed<LastError>($push?.lastErrors);
  return {
    ...change,
    ...(change.$set && { $set: shortSet(change.$set) }),
    $push: {
      failures: { $each: failures, $slice: -1 },
      ...(notes.length && { notes: { $each: notes, $slice: -NOTES_KEPT } }),
      ...(errors.length && lastErrorsKept(errors))
    }
  };
}

/** How a group has failed stands beside its failure. */
function shortSet($set: Record<string, unknown>): Record<string, unknown> {
  const short = ([path, value]: [string, unknown]) => [
    path,
    path.endsWith(".error")
      ? { ...(value as object), ...shortTexts(value as FailureError) }
      : path === "reason"
        ? String(value).slice(0, SHORT)
        : value
  ];
  return Object.fromEntries(Object.entries($set).map(short));
}

function shortTexts({ name, message }: Pick<FailureError, "name" | "message">): FailureError {
  return { name: name.slice(0, SHORT), message: message.slice(0, SHORT) };
}

function pushed<T>(value: unknown): T[] {
  if (value === undefined) return [];
  return (value as { $each?: T[] }).$each ?? [value as T];
}

const HUMAN: Note["act"][] = ["retry", "resolve", "discard", "forget"];

function isOfHuman({ $push }: Change): boolean {
  return pushed<Note>($push?.notes).some(({ act }) => HUMAN.includes(act));
}

function shortFailure(failure: Failure): Failure {
  const { code } = failure.error;
  const short = shortTexts(failure.error);
  if (typeof code === "number") short.code = code;
  return { ...failure, error: short };
}

function shortNote(whole: Note): Note {
  return { ...whole, ...(whole.note !== undefined && { note: whole.note.slice(0, SHORT) }) };
}
