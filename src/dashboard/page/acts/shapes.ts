import type { ActAnswer, Answer, ReadsOfOne, Wire } from "../kit/api-types";

/** Names for what the calls answer. */
export type Story = Answer<"get">;
export type GroupRow = Story["groups"][number];
export type MessageRow = Answer<"list">["rows"][number];
export type CauseRow = Answer<"causes">["rows"][number];
export type BulkRow = Answer<"bulks">["rows"][number];
export type BulkStory = Wire<ReadsOfOne["bulks"]>;
export type BulkBegun = ActAnswer<"bulk">;
export type AuditRow = Answer<"audits">["rows"][number];
export type AuditStory = Wire<ReadsOfOne["audits"]>;
export type ActResult = ActAnswer<"retry">;

/** What acts on all dead messages that match. */
export type FilterAct = "retry" | "resolve" | "discard";

/** What acts on one message. */
export type OneAct = FilterAct | "cancel";

export type ReplayBegun = ActAnswer<"replay">;
/** `meta` comes with it where payloads are hidden; `withheld` says why there is none. */
export type PayloadAnswer = Answer<"payload"> & { meta?: Record<string, unknown>; withheld?: string };
