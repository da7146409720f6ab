import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import type { AuditRow } from "../../../src";
import type { Page as Rows } from "../../../src/operator/operations";
import { until } from "../../support/brokers";
import { focused, gone, PATIENCE_MS, says, seen, visit } from "../../support/browser";
import { because, button, dialog, goTo, link, main, rowOf, table } from "../../support/dashboard-page";
import { fill } from "../../support/dashboard-rows";
import { type World, world } from "../../support/dashboard-world";
import { consumer, errorOf, reaches, story, subscribed } from "../../support/services";

async function lastAudit({ desk }: World): Promise<AuditRow> {
  const { rows } = await desk.call<Rows<AuditRow>, object>("reliable.audits", {});
  return rows[0] as AuditRow;
}

const typed = (page: Page) => dialog(page).getByRole("textbox", { name: /^Type / });

it("a group is paused and resumed, with who and why for everybody to see", async () => {
  const night = await world();
  const { page } = await visit(`${night.url}#/groups`, { user: "ops1" });
  await button(page, "Pause mail").click();
  await focused(button(dialog(page), "Cancel"));
  await because(page, "the mail server moves", "Pause group mail");
  await says(dialog(page), "Group mail is paused.");
  await button(dialog(page), "Close").click();
  await goTo(page, "#/groups?group=mail", "Groups");
  await says(main(page), /mail is paused by ops1 since.*the mail server moves/);
  expect(await lastAudit(night)).toMatchObject({ act: "pause", by: "ops1", group: "mail", state: "done" });
  night.mail.broken = false;
  await night.emit("order.created", {}, { id: "order-77" });
  const other = await visit(night.url, { user: "ops2" });
  await says(main(other.page), /paused since .* by ops1/);
  await goTo(other.page, "#/groups", "Groups");
  await button(other.page, "Resume mail").click();
  await because(other.page, "it has moved", "Resume group mail");
  await says(dialog(other.page), "Group mail takes messages again.");
  await reaches(night.desk, "order-77", "consumed", PATIENCE_MS);
  await gone(button(page, "Resume mail"));
});

it("a group that is gone is forgotten, when its name is typed; one that lives is not", async () => {
  const night = await world();
  const old = await night.made.node("old", [
    consumer(night.made.mixin({ service: false }), "invoices", "order.created", () => undefined)
  ]);
  await subscribed(night.desk, 3);
  const { page } = await visit(`${night.url}#/groups`, { user: "ops1" });
  const forget = button(page, "Forget invoices");
  expect(await (await seen(forget)).getAttribute("aria-disabled")).toBe("true");
  await forget.press("Enter");
  await seen(page.getByText("It has 1 consumer: stop its services first."));
  await old.stop();
  await night.emit("order.created", {}, { id: "order-77", groups: "invoices" });
  await says(rowOf(page, "invoices"), "no consumer: start it");
  await forget.click();
  await says(dialog(page), "1 message will not wait for it any more.");
  await typed(page).fill("invoices");
  await because(page, "nobody sends invoices", "Forget group invoices");
  await says(dialog(page), "Forgotten.");
  expect(await lastAudit(night)).toMatchObject({ act: "forget", by: "ops1", group: "invoices" });
  await button(dialog(page), "Close").click();
  await gone(rowOf(page, "invoices"));
});

it("a message is resolved, with how it was dealt with", async () => {
  const night = await world();
  await night.dies("order-77");
  const { page } = await visit(`${night.url}#/message?id=order-77`, { user: "ops1" });
  await button(page, "Resolve").click();
  await says(dialog(page), "Has it been dealt with in another way?");
  await because(page, "sent by hand", "Resolve 1 message");
  await gone(dialog(page));
  await says(main(page), "resolve of mail by ops1: sent by hand");
  expect((await story(night.desk, "order-77")).status).toBe("resolved");
});

it("what is to be sent later is found, and called off, with why; what has been sent is not", async () => {
  const night = await world();
  const sendAt = new Date(Date.now() + 3_600_000);
  await night.emit("order.created", {}, { id: "order-77", sendAt });
  const { page } = await visit(night.url, { user: "ops1" });
  await says(main(page), /Scheduled\s*1/);
  await goTo(page, "#/messages?status=scheduled", "Messages");
  await link(rowOf(page, "order-77"), "order-77").click();
  await says(main(page), /Status\s*scheduled/);
  await button(page, "Call off").click();
  await focused(button(dialog(page), "Cancel"));
  await says(dialog(page), /It is to be sent at .*It is not sent, to nobody/s);
  await because(page, "paid", "Call off 1 message");
  await gone(dialog(page));
  await says(main(page), "cancel by ops1: paid");
  expect((await story(night.desk, "order-77")).status).toBe("cancelled");
  expect(await lastAudit(night)).toMatchObject({ act: "cancel", by: "ops1", id: "order-77", state: "done" });
  await gone(button(page, "Call off"));
  night.mail.broken = false;
  await night.emit("order.created", {}, { id: "order-78", waitFor: "consumed" });
  await goTo(page, "#/message?id=order-78&dialog=cancel", "Message");
  await says(dialog(page), "It is consumed now: only what is still scheduled can be called off.");
});

it("a message is deleted for ever only when its id is typed", async () => {
  const night = await world();
  await night.dies("order-77");
  const { page } = await visit(`${night.url}#/message?id=order-77`, { user: "ops1", expected: [/status of 404/] });
  await button(page, "Discard").click();
  await focused(button(dialog(page), "Cancel"));
  await says(dialog(page), /order-77.*order\.created/s);
  await typed(page).fill("order-7");
  await because(page, "a test order", "Discard 1 message");
  await says(dialog(page), "This is not order-77");
  expect((await story(night.desk, "order-77")).status).toBe("dead");
  await typed(page).fill("order-77");
  await button(dialog(page), "Discard 1 message").click();
  await gone(dialog(page));
  expect(await errorOf(story(night.desk, "order-77"))).toMatchObject({ type: "RELIABLE_NOT_FOUND" });
  await goTo(page, "#/acts", "Acts");
  await says(table(page, "Record"), /discard.*ops1.*order-77.*a test order/s);
});

it("all are those that were counted: what dies while the dialog is open is left alone", async () => {
  const night = await world();
  await night.dies("order-1", "order-2");
  const { page } = await visit(`${night.url}#/dead`, { user: "ops1" });
  await button(page, "Discard all 2").click();
  await seen(button(dialog(page), "Discard 2 messages"));
  await night.dies("order-3");
  await typed(page).fill("2");
  await because(page, "test orders", "Discard 2 messages");
  await says(main(page), "2 of 2 deleted");
  expect((await story(night.desk, "order-3")).status).toBe("dead");
});

it("those that are ticked are acted on together, each with its outcome", async () => {
  const night = await world();
  await night.dies("order-1", "order-2", "order-3");
  const { page } = await visit(`${night.url}#/dead?group=mail`, { user: "ops1" });
  for (const id of ["order-1", "order-3"]) await page.getByRole("checkbox", { name: `Tick ${id}` }).check();
  await button(page, "Resolve 2 ticked").click();
  await because(page, "dealt with", "Resolve 2 messages");
  await says(dialog(page), "2 of 2 resolved.");
  await button(dialog(page), "Close").click();
  await gone(link(table(page, "Messages"), "order-3"));
  expect((await story(night.desk, "order-2")).status).toBe("dead");
  expect((await story(night.desk, "order-3")).status).toBe("resolved");
});

it("kept messages are replayed to a group, after they were counted", async () => {
  const night = await world();
  night.mail.broken = false;
  await night.emit("order.created", {}, { id: "order-77", waitFor: "consumed" });
  const { page } = await visit(`${night.url}#/groups`, { user: "ops1" });
  await button(page, "Replay mail").click();
  await dialog(page)
    .getByLabel("Emitted from")
    .fill(new Date(Date.now() - 3_600_000).toISOString().slice(0, 16));
  await dialog(page)
    .getByRole("checkbox", { name: /Also what it has handled/ })
    .check();
  await button(dialog(page), "Count").click();
  await says(dialog(page), /1 message/);
  await because(page, "the mails were lost", "Replay 1 message");
  await says(dialog(page), "It has begun.");
  await link(dialog(page), "Show its progress").click();
  await says(main(page), /1 of 1 sent · 1 handled/);
  expect(night.mail.handled).toHaveLength(2);
});

it("a parked message is looked at and discarded, when its id is typed", async () => {
  const night = await world();
  await fill(night.desk);
  const { page } = await visit(`${night.url}#/parked`, { user: "ops1" });
  const asked: string[] = [];
  page.on("request", request => asked.push(decodeURIComponent(request.url())));
  await link(page, "parked order-77").click();
  await says(main(page), "unparsable");
  await says(main(page), "Ada");
  await button(page, "Discard").click();
  await typed(page).fill("parked order-77");
  await because(page, "nobody needs it", "Discard 1 parked message");
  await gone(dialog(page));
  await until(
    () => night.desk.call<Rows<object>, object>("reliable.parked", {}),
    ({ total }) => total === 1,
    PATIENCE_MS
  );
  await goTo(page, "#/parked", "Parked messages");
  await gone(link(page, "parked order-77"));
  // When it is opened; and no more once it is discarded.
  expect(asked.filter(url => url.endsWith('{"id":"parked order-77"}'))).toHaveLength(1);
});

it("payloads with a key are erased, after it was said whose", async () => {
  const night = await world();
  night.mail.broken = false;
  await night.emit("order.created", { name: "Ada" }, { id: "order-77", keys: { customer: 7 }, waitFor: "consumed" });
  const { page } = await visit(`${night.url}#/messages?key=customer%3D7`, { user: "ops1" });
  await button(page, "Erase payloads").click();
  await says(dialog(page), "1 message would lose the payload.");
  await typed(page).fill("customer=7");
  await because(page, "asked for by the customer", "Erase payloads");
  await says(dialog(page), "have lost the payload");
  expect((await story(night.desk, "order-77")).payload).toBe(null);
  expect(await lastAudit(night)).toMatchObject({ act: "erase", by: "ops1", note: "asked for by the customer" });
});
