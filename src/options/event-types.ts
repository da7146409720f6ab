import type { StandardSchema } from "./schemas";

/**
 * Your events and their payloads, to be augmented; empty, every name and payload is taken:
 *
 *   declare module "moleculer-reliable-emit" {
 *     interface ReliableEvents {
 *       "order.created": { id: string };
 *     }
 *   }
 */
// biome-ignore lint/suspicious/noEmptyInterface: users add to it.
export interface ReliableEvents {}

/** Of one event whose schema makes something else of what is emitted. */
export interface EventOf<Emitted, Handled = Emitted> {
  readonly emitted: Emitted;
  readonly handled: Handled;
  readonly "~event": true;
}

/** For `interface ReliableEvents extends EventsOf<typeof schemas> {}`. */
export type EventsOf<Schemas> = {
  [Event in keyof Schemas]: Schemas[Event] extends StandardSchema<infer Input, infer Output>
    ? EventOf<Input, Output>
    : never;
};

/** A name of an event: one of ReliableEvents, where there is one. */
export type ReliableEvent = [keyof ReliableEvents] extends [never] ? string : keyof ReliableEvents & string;

type Typed<Event extends string, Part extends "emitted" | "handled", Else> = Event extends keyof ReliableEvents
  ? ReliableEvents[Event] extends EventOf<unknown, unknown>
    ? ReliableEvents[Event][Part]
    : ReliableEvents[Event]
  : Else;

/** What an emit of the event takes. */
export type ReliablePayload<Event extends string> = Typed<Event, "emitted", unknown>;

/** As JSON carries it: a Date comes as a text. */
export type Jsonified<T> = T extends { toJSON(): infer Json }
  ? Json
  : T extends (infer Item)[]
    ? Jsonified<Item>[]
    : T extends object
      ? { [Key in keyof T]: Jsonified<T[Key]> }
      : T;

/** What its handlers get. */
export type HandledPayload<Event extends string> = Jsonified<Typed<Event, "handled", unknown>>;
