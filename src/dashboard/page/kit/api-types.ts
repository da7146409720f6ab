import type { ActParams, ActResult } from "../../../operator/acts";
import type { AuditRow, AuditStory } from "../../../operator/audit-views";
import type { BulkBegun, BulkChangeParams, BulkParams } from "../../../operator/bulk/bulk";
import type { BulkRow, BulkStory } from "../../../operator/bulk/bulk-views";
import type { ReplayBegun, ReplayParams } from "../../../operator/bulk/replay";
import type { CausesAnswer } from "../../../operator/causes";
import type { DiscardParams } from "../../../operator/discard-parked";
import type { Erased, EraseParams } from "../../../operator/erase";
import type { Filter } from "../../../operator/filter";
import type { ForgetParams, Forgotten } from "../../../operator/forget";
import type { SubscriptionRow } from "../../../operator/health";
import type { HeldKeys, KeysParams, SkipParams } from "../../../operator/held-keys";
import type { History, HistoryParams } from "../../../operator/history";
import type { ListParams, MessagePage } from "../../../operator/list";
import type { Page } from "../../../operator/operations";
import type { Overview } from "../../../operator/overview";
import type { PauseParams, PauseResult } from "../../../operator/pause";
import type { PausedRow } from "../../../operator/pause-views";
import type { MessageStory } from "../../../operator/story";

/** As it comes by JSON: an instant is an ISO text. */
export type Wire<T> = T extends Date ? string : T extends object ? { [K in keyof T]: Wire<T[K]> } : T;

/** A row of `parked`. Without a body where payloads are hidden: that one is asked for by its id. */
export interface ParkedRow {
  id: string;
  at: string;
  queue: string;
  reason: string;
  nodeID: string;
  /** Of the whole body. */
  bytes: number;
  sha256?: string;
  /** The body here is only its start. */
  cut?: boolean;
  encoding?: "utf8" | "base64";
  body?: string;
}

export interface ParkedWhole extends ParkedRow {
  kept?: number;
  properties?: Record<string, unknown>;
  headers?: Record<string, unknown>;
}

/** Of `payload`. `withheld`: `redact` has failed. */
export interface PayloadAnswer {
  payload: unknown;
  payloadDroppedAt?: string;
  encoded?: true;
}

interface Paging {
  page?: number;
  pageSize?: number;
}

/** Where the payload is asked for by itself, there is none here. */
export type StoryAnswer = Omit<MessageStory, "payload"> & { payload?: unknown };

/** Name of a read → what it is asked, and what it answers. */
export interface Reads {
  overview: [params: Record<never, never>, answer: Overview];
  history: [params: HistoryParams, answer: History];
  causes: [params: Filter, answer: CausesAnswer];
  list: [params: ListParams, answer: MessagePage];
  get: [params: { id: string; payload?: boolean }, answer: StoryAnswer];
  payload: [params: { id: string }, answer: PayloadAnswer];
  subscriptions: [params: Record<never, never>, answer: SubscriptionRow[]];
  parked: [params: Paging, answer: Page<ParkedRow>];
  audits: [params: Paging, answer: Page<AuditRow>];
  bulks: [params: Paging, answer: Page<BulkRow>];
  paused: [params: { event?: string }, answer: PausedRow[]];
  keys: [params: KeysParams, answer: HeldKeys];
}

/** With an `id` these answer all of one. */
export interface ReadsOfOne {
  parked: ParkedWhole;
  audits: AuditStory;
  bulks: BulkStory;
}

export type ReadName = keyof Reads;
export type ReadParams<N extends ReadName> = Reads[N][0];
export type Answer<N extends ReadName> = Wire<Reads[N][1]>;

type Sent<T> = Omit<T, "by">;

/** Name of an act → its body, and what it answers. */
export interface ActCalls {
  retry: [body: Sent<ActParams>, answer: ActResult];
  resolve: [body: Sent<ActParams>, answer: ActResult];
  discard: [body: Sent<DiscardParams>, answer: ActResult];
  cancel: [body: Sent<ActParams>, answer: ActResult];
  skip: [body: Sent<SkipParams>, answer: ActResult];
  forget: [body: Sent<ForgetParams>, answer: Forgotten];
  pause: [body: Sent<PauseParams>, answer: PauseResult];
  resume: [body: Sent<PauseParams>, answer: PauseResult];
  sweep: [body: { note: string }, answer: Record<string, number | boolean>];
  bulk: [body: BulkParams, answer: BulkBegun];
  bulkChange: [body: BulkChangeParams, answer: BulkStory];
  replay: [body: Sent<ReplayParams>, answer: ReplayBegun];
  erase: [body: Sent<EraseParams>, answer: Erased];
}

export type ActName = keyof ActCalls;
export type ActBody<N extends ActName> = ActCalls[N][0];
export type ActAnswer<N extends ActName> = Wire<ActCalls[N][1]>;
