import { BSON } from "mongodb";
import { expect, it } from "vitest";
import { describeError, groupErrorOf } from "../../src/message/failure-text";
import {
  FAILURES_KEPT,
  MAX_NODE_ID,
  MAX_PAYLOAD_BYTES,
  type Message,
  NOTES_KEPT,
  type Note
} from "../../src/message/message";
import { splitRow } from "../../src/stores/documents/bodies";
import { encodeMessage } from "../../src/stores/documents/codec";
import { noted } from "../../src/stores/documents/rows";
import { MAX_BYTES } from "../../src/wire/announcement";
import { MAX_HEADER_BYTES } from "../../src/wire/envelope";
import { at, failureOf, messageOf, noteOf, receiptOf } from "../support/messages";

const MONGODB_BYTES = 16 * 1024 * 1024;
/** Three bytes each. */
const wide = (length: number) => "€".repeat(length);
/** As many as a namespace has at most. The dots of a pattern are escaped in a field's name. */
const GROUPS = Array.from({ length: 5000 }, (_, n) => {
  const pattern = `${"*.".repeat(MAX_BYTES.pattern)}*`.slice(0, MAX_BYTES.pattern - 1);
  return `${`${n}`.padEnd(MAX_BYTES.group, "g")}:${pattern}*`;
});

const ofEach = <T>(value: T): Record<string, T> => Object.fromEntries(GROUPS.map(group => [group, value]));

const nodeID = wide(MAX_NODE_ID);
const error = describeError({
  name: wide(1000),
  message: wide(5000),
  stack: wide(9000),
  data: wide(5000),
  code: wide(900),
  type: wide(900)
});
const failure = failureOf({ group: GROUPS[0] as string, attempt: 100, nodeID, error });
const full: Partial<Message> = {
  body: Buffer.alloc(MAX_PAYLOAD_BYTES),
  meta: { text: "m".repeat(MAX_HEADER_BYTES) },
  headers: { text: "h".repeat(MAX_HEADER_BYTES) },
  source: { action: "a".repeat(255), params: { text: wide(4096) } },
  origin: { requestID: "r".repeat(MAX_HEADER_BYTES) },
  groups: [wide(MAX_HEADER_BYTES / 3)],
  reason: wide(500),
  failures: Array.from({ length: FAILURES_KEPT }, () => failure),
  notes: Array.from(
    { length: NOTES_KEPT },
    () =>
      noted(noteOf("retry", { by: wide(300), note: wide(2000), groups: GROUPS, replaced: GROUPS })).notes
        .$each[0] as Note
  )
};

it.each<[string, Partial<Message>]>([
  [
    "of all groups that can be each has failed",
    {
      waiting: GROUPS,
      attempts: ofEach(100),
      spent: ofEach(100),
      base: ofEach(100),
      next: ofEach(at(1))
    }
  ],
  [
    "of all groups that can be each has failed for good",
    {
      waiting: [],
      failed: GROUPS,
      attempts: ofEach(100),
      spent: ofEach(100),
      base: ofEach(100),
      deadAt: ofEach(at(1)),
      errors: ofEach(groupErrorOf(failure))
    }
  ],
  [
    "of all groups that can be each has answered",
    {
      waiting: [],
      attempts: ofEach(100),
      spent: ofEach(100),
      base: ofEach(100),
      receipts: ofEach(receiptOf({ nodeID }))
    }
  ]
])("the largest row, and the largest body, fit into MongoDB's 16 MiB: %s", (_, state) => {
  const { row, body } = splitRow(encodeMessage(messageOf({ ...full, ...state })), at(1));
  expect(BSON.calculateObjectSize(row)).toBeLessThan(MONGODB_BYTES);
  expect(BSON.calculateObjectSize(body ?? {})).toBeGreaterThan(MAX_PAYLOAD_BYTES);
  expect(BSON.calculateObjectSize(body ?? {})).toBeLessThan(MONGODB_BYTES);
});
