import { expect, it } from "vitest";
import type { AuditRow, HeldKeys } from "../../../src";
import type { Page as Rows } from "../../../src/operator/operations";
import { accessible } from "../../support/axe";
import { until } from "../../support/brokers";
import { fits, focused, gone, says, seen, visit } from "../../support/browser";
import { because, button, dialog, goTo, link, main, rowOf } from "../../support/dashboard-page";
import { type World, world } from "../../support/dashboard-world";
import { reaches, story } from "../../support/services";

/** The first of these is dead in mail, and holds the key; the others wait behind it. */
async function held({ emit, desk }: World, key: string, ids: string[]): Promise<void> {
  for (const id of ids) await emit("order.created", {}, { id, orderKey: key });
  await until(
    () => desk.call<HeldKeys, object>("reliable.keys", { key }),
    ({ rows }) => rows[0]?.behind === ids.length - 1
  );
}

it("a held key is found from the overview, and skipped, with why; the next one goes on", async () => {
  const night = await world();
  await held(night, "order-7", ["order-77", "order-78"]);
  night.mail.broken = false;
  const { page } = await visit(night.url, { user: "ops1" });
  await says(main(page), /Key order-7 is held in mail since .* by message order-77, and 1 message waits behind it/);
  await link(page, "See 1 held key").click();
  await says(rowOf(page, "order-7"), /mail.*order-77.*1.*535 authentication failed/s);
  await button(page, "Skip order-7 in mail").click();
  await focused(button(dialog(page), "Cancel"));
  await says(dialog(page), /order-77 holds the key in mail since .*1 message waits behind it\./s);
  await accessible(page, "the dialog of skip");
  await fits(page);
  await because(page, "sent by hand", "Skip 1 message");
  await gone(dialog(page));
  await says(main(page), "No key is held.");
  await reaches(night.desk, "order-78", "consumed");
  expect(night.mail.handled).toEqual(["order-78"]);
  const { rows } = await night.desk.call<Rows<AuditRow>, object>("reliable.audits", {});
  expect(rows).toMatchObject([{ act: "skip", by: "ops1", note: "sent by hand", id: "order-77", state: "done" }]);
  await goTo(page, "#/message?id=order-77", "Message");
  await says(main(page), "skip of mail by ops1: sent by hand");
  await says(main(page), /Order key\s*order-7/);
});

it("what holds a key is retried from its row, and all go on in their order", async () => {
  const night = await world();
  await held(night, "order-7", ["order-77", "order-78", "order-79"]);
  night.mail.broken = false;
  const { page } = await visit(`${night.url}#/message?id=order-78`, { user: "ops1" });
  await says(main(page), /behind message order-77, which holds the key since/);
  await link(page, "What holds the order key order-7").click();
  await button(page, "Retry order-77").click();
  await says(dialog(page), "It goes again to: mail");
  await because(page, "the password is right again", "Retry 1 message");
  await gone(dialog(page));
  await says(main(page), "The key order-7 is not held.");
  await reaches(night.desk, "order-79", "consumed");
  expect(night.mail.handled).toEqual(["order-77", "order-78", "order-79"]);
});

it("who may not resolve cannot skip, and is told; who comes too late is told what holds it no more", async () => {
  const night = await world();
  await held(night, "order-7", ["order-77"]);
  const retrier = await visit(`${night.url}#/keys`, { user: "retrier" });
  const skip = await seen(button(retrier.page, "Skip order-7 in mail"));
  expect(await skip.getAttribute("aria-disabled")).toBe("true");
  await skip.press("Enter");
  await says(main(retrier.page), "Your login may not resolve.");
  await gone(dialog(retrier.page));
  expect(await button(retrier.page, "Retry order-77").getAttribute("aria-disabled")).toBe(null);
  const { page } = await visit(`${night.url}#/keys?dialog=skip&of=order-7&in=mail`, { user: "ops1" });
  await says(dialog(page), "Nobody waits behind it.");
  await night.desk.call("reliable.skip", { key: "order-7", note: "by hand" });
  await says(dialog(page), "It does not hold the key any more.");
  expect((await story(night.desk, "order-77")).status).toBe("resolved");
});
