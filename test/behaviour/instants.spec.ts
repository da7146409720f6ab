import { expect, it, onTestFinished } from "vitest";
import type { History, MessagePage, ReplayBegun } from "../../src";
import { cluster } from "../support/brokers";
import { deadOf } from "../support/messages";
import { storeOf } from "../support/runtime";
import { consumer, errorOf, subscribed } from "../support/services";

/** Of the process, while one test runs. */
function inZone(zone: string): void {
  const { TZ } = process.env;
  process.env["TZ"] = zone;
  onTestFinished(() => {
    if (TZ === undefined) delete process.env["TZ"];
    else process.env["TZ"] = TZ;
  });
}

it("an instant without a zone is UTC wherever it is given, whatever the zone of the node", async () => {
  inZone("America/New_York");
  const minute = (n: number) => new Date(Math.floor(Date.now() / 60_000) * 60_000 - n * 60_000);
  const [from, died, to] = [minute(30), minute(25), minute(20)] as const;
  expect(from.getTimezoneOffset()).toBeGreaterThan(0);
  const made = cluster();
  const broker = await made.node("node-1", [consumer(made.mixin(), "mail", "order.created", () => undefined)]);
  await subscribed(broker, 1);
  await storeOf(broker).messages.insert([deadOf({ _id: "d", at: died })]);
  const spellings: ((at: Date) => string)[] = [
    at => at.toISOString(),
    at => at.toISOString().slice(0, -1),
    at => at.toISOString().slice(0, 16),
    at => at.toISOString().slice(0, 19).replace("T", " "),
    at => new Date(at.getTime() + 5.5 * 3_600_000).toISOString().replace("Z", "+05:30"),
    at => new Date(at.getTime() - 8 * 3_600_000).toISOString().replace("Z", "-0800"),
    at => String(at.getTime())
  ];
  for (const text of spellings) {
    const [fromAt, toAt] = [text(from), text(to)];
    const iso = { fromAt: from.toISOString(), toAt: to.toISOString() };
    expect(await broker.call<History, object>("reliable.history", { fromAt, toAt }), fromAt).toMatchObject(iso);
    const replay = { group: "mail", fromAt, toAt, dryRun: true };
    const { text: meant } = await broker.call<ReplayBegun, object>("reliable.replay", replay);
    expect(meant, fromAt).toContain(`emitted from ${iso.fromAt} to ${iso.toAt}`);
    const listed = (deadFromAt: string, deadToAt: string) =>
      broker.call<MessagePage, object>("reliable.list", { deadFromAt, deadToAt });
    expect((await listed(fromAt, toAt)).rows, fromAt).toMatchObject([{ id: "d" }]);
    expect((await listed(text(minute(24)), toAt)).rows, fromAt).toEqual([]);
  }
  for (const bad of ["Nov 26 2026 03:00", "2026-11-26T3:00", "2026-13-01", "2026-11-26T25:00", "soon"])
    for (const [action, params] of [
      ["history", { fromAt: bad }],
      ["list", { deadToAt: bad }],
      ["replay", { group: "mail", fromAt: bad }]
    ] as const)
      expect(await errorOf(broker.call(`reliable.${action}`, params)), bad).toMatchObject({
        type: "RELIABLE_BAD_OPTION",
        message: expect.stringContaining("UTC where no zone is given")
      });
});
