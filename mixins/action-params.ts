import { instant, messageKey, numberOf, saying, textOrNumber } from "./param-rules";

export const textOf = (max: number, empty: boolean) => ({ type: "multi", rules: textOrNumber(max, empty) });

const MAX_IDS = 500;

/** One alone, too; the validator that comes with the oldest Moleculer cannot make a list of it. */
export const listOf = (max: number) => ({
  type: "multi",
  rules: saying(`an id of 1 to ${max} characters, or a list of 1 to ${MAX_IDS} of them`, [
    { type: "array", items: textOf(max, false), min: 1, max: MAX_IDS },
    ...textOrNumber(max, false)
  ]),
  optional: true
});

export const text = { ...textOf(300, false), optional: true };

const ms = numberOf(0, 1e13, "^\\d{1,13}$");

export const flag = { type: "boolean", convert: true, optional: true };

export const page = numberOf(1, 1e9, "^[1-9]\\d{0,8}$");

export const pageSize = numberOf(1, 500, "^([1-9]\\d?|[1-4]\\d\\d|500)$");

/** Only strings and numbers pass, so nothing of a query language reaches the store. */
export const FILTER = {
  status: {
    type: "multi",
    rules: [
      { type: "string", empty: false, max: 300 },
      { type: "array", items: { type: "string", max: 300 }, min: 1, max: 20 }
    ],
    optional: true
  },
  event: text,
  group: text,
  producer: text,
  olderThanMs: ms,
  youngerThanMs: ms,
  idPrefix: text,
  requestID: text,
  key: messageKey,
  errorType: text,
  cause: text,
  errorText: text,
  deadFromAt: instant,
  deadToAt: instant
};

export const stepMs = ms;

/** Parked ones bear the names of a queue and of a stranger's message. */
export const parkedId = textOf(1000, false);

export const limit = numberOf(1, 10_000, "^([1-9]\\d{0,3}|10000)$");

export const ACT = {
  $$strict: true,
  id: text,
  ids: listOf(300),
  ...FILTER,
  note: { ...textOf(2000, true), optional: true },
  by: text,
  dryRun: flag,
  limit
};

const TEXTS = [
  ...["id", "ids", "parked", "status", "event", "group", "producer", "note", "by"],
  ...["idPrefix", "requestID", "key", "errorType", "cause", "errorText", "cursor"]
];

const NUMBERS = ["olderThanMs", "youngerThanMs", "page", "pageSize", "limit", "perSecond", "stepMs"];

export function asParams<T>(params: T): T {
  const text = (value: unknown): unknown =>
    typeof value === "number" ? String(value) : Array.isArray(value) ? value.map(text) : value;
  const param = ([name, value]: [string, unknown]) => [
    name,
    TEXTS.includes(name) ? text(value) : NUMBERS.includes(name) && value !== undefined ? Number(value) : value
  ];
  return Object.fromEntries(Object.entries(params as object).map(param)) as T;
}
