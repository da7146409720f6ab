import { expect, it } from "vitest";
import type { Subscription } from "../../src/message/records";
import { Subscriptions } from "../../src/outbound/subscriptions";
import { systemClock } from "../../src/platform/clock";
import type { Store } from "../../src/stores/store";
import { silent, subscriptionOf } from "../support/messages";

/** Answers when told to, with what it held when it was asked. */
function slowStore(held: Subscription[]) {
  const answers: (() => void)[] = [];
  const known = () => {
    const now = { subscriptions: [...held], pauses: [] };
    return new Promise<typeof now>(resolve => answers.push(() => resolve(now)));
  };
  return {
    store: { ready: true, subscriptions: { known }, onReady: () => () => undefined } as unknown as Store,
    answers
  };
}

it("whoever asks while a read is under way gets what was written before it asked, by one further read", async () => {
  const held = [subscriptionOf("stock")];
  const { store, answers } = slowStore(held);
  const subscriptions = new Subscriptions(store, 60_000, silent, systemClock);
  const first = subscriptions.refresh();
  held.push(subscriptionOf("mail"));
  const later = [subscriptions.refresh(), subscriptions.refresh(), subscriptions.refresh()];
  answers[0]?.();
  await first;
  expect(subscriptions.groupsFor("order.created")).toEqual(["stock"]);
  await Promise.resolve();
  answers[1]?.();
  await Promise.all(later);
  expect(subscriptions.groupsFor("order.created")).toEqual(["stock", "mail"]);
  expect(answers).toHaveLength(2);
});

it.each<[string, string[] | undefined, string[]]>([
  ["everybody", undefined, ["stock", "mail", "audit:order.*"]],
  ["a name", ["mail"], ["mail"]],
  ["a wildcard handler by its group", ["audit"], ["audit:order.*"]],
  ["a name nobody knows", ["mail", "ghost"], ["mail", "ghost"]],
  ["a name twice", ["mail", "mail"], ["mail"]]
])("%s owes the receipts", async (_, named, expected) => {
  const { store, answers } = slowStore([
    subscriptionOf("stock"),
    subscriptionOf("mail"),
    subscriptionOf("audit:order.*", { pattern: "order.*" }),
    subscriptionOf("other", { pattern: "order.paid" })
  ]);
  const subscriptions = new Subscriptions(store, 60_000, silent, systemClock);
  const read = subscriptions.refresh();
  answers[0]?.();
  await read;
  expect(subscriptions.waitingFor("order.created", named)).toEqual(expected);
  expect(subscriptions.waitingFor("nobody.knows")).toEqual(["*"]);
});

it("a row that cannot be read is logged once, not at every read", async () => {
  const known = (unreadable: (error: Error) => void) => {
    for (const id of ["a", "b"]) unreadable(new Error(`The row ${id} is damaged.`));
    return Promise.resolve({ subscriptions: [], pauses: [] });
  };
  const store = { ready: true, subscriptions: { known }, onReady: () => () => undefined } as unknown as Store;
  const lines: string[] = [];
  const logger = { ...silent, error: (line: unknown) => void lines.push(String(line)) };
  const subscriptions = new Subscriptions(store, 60_000, logger, systemClock);
  for (let n = 0; n < 3; n++) await subscriptions.refresh();
  expect(lines).toEqual(["a", "b"].map(id => `Reliable: The row ${id} is damaged. Nobody is known by it.`));
});
