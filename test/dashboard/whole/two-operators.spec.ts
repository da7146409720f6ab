import { expect, it } from "vitest";
import type { AuditRow } from "../../../src";
import type { Page as Rows } from "../../../src/operator/operations";
import { gone, says, seen, visit } from "../../support/browser";
import { because, button, dialog, link, main } from "../../support/dashboard-page";
import { world } from "../../support/dashboard-world";
import { reaches } from "../../support/services";

const audits = async (broker: { call: (name: string, params: object) => Promise<unknown> }) =>
  ((await broker.call("reliable.audits", {})) as Rows<AuditRow>).rows;

it("of two who retry the same message, the second is told who was first, and nothing is sent twice", async () => {
  const night = await world();
  await night.dies("order-77");
  night.mail.broken = false;
  const address = `${night.url}#/message?id=order-77`;
  const first = await visit(address, { user: "ops2" });
  const second = await visit(address, { user: "ops1", expected: [/status of 409/] });
  for (const { page } of [first, second]) {
    await button(page, "Retry one first").click();
    await seen(dialog(page));
  }
  // Else the second may hear of it before the click.
  await second.page.keyboard.press("Escape");
  await button(second.page, "Pause updates").click();
  await button(second.page, "Retry one first").click();
  await says(dialog(second.page), "It goes again to: mail");
  await because(first.page, "the password is right again", "Retry 1 message");
  await gone(dialog(first.page));
  await reaches(night.desk, "order-77", "consumed");
  await because(second.page, "me too", "Retry 1 message");
  await says(dialog(second.page), "RELIABLE_ILLEGAL_TRANSITION");
  await says(dialog(second.page), /ops2 has retried it \d+ (ms|s) ago/);
  await link(dialog(second.page), "Show").click();
  await gone(dialog(second.page));
  await button(second.page, "Resume updates").click();
  await says(main(second.page), "retry of mail by ops2: the password is right again");
  expect(night.mail.handled).toEqual(["order-77"]);
  expect(await audits(night.desk)).toMatchObject([{ act: "retry", by: "ops2", id: "order-77" }]);
});

it("of the same bulk act a second is refused, told whose the first is, and led to it", async () => {
  const night = await world();
  const ids = Array.from({ length: 30 }, (_, n) => `order-${n}`);
  await night.dies(...ids);
  night.mail.broken = false;
  const address = `${night.url}#/dead?group=mail`;
  const first = await visit(address, { user: "ops2" });
  const second = await visit(address, { user: "ops1", expected: [/status of 409/] });
  for (const { page } of [first, second]) {
    await button(page, "Retry all 30").click();
    await seen(dialog(page));
    await dialog(page).getByRole("textbox", { name: "Per second, at most" }).fill("1");
    await seen(button(dialog(page), "Retry 30 messages"));
  }
  await because(first.page, "all of them", "Retry 30 messages");
  await gone(dialog(first.page));
  await because(second.page, "me too", "Retry 30 messages");
  await says(dialog(second.page), /RELIABLE_BULK_RUNNING/);
  await link(dialog(second.page), "Show its progress").click();
  await says(main(second.page), "started by ops2");
  // Any of them may slow it down or end it, and the other sees by whom.
  await button(second.page, "Pause").click();
  await says(main(first.page), "paused");
  await says(main(first.page), /pause by ops1/);
  await button(first.page, "Stop").click();
  await because(first.page, "enough", "Stop");
  await says(main(second.page), /stop by ops2: enough/);
  const [last] = await audits(night.desk);
  expect(last).toMatchObject({ act: "retry", by: "ops2", state: "stopped" });
  expect(last?.["done"]).toBeLessThan(30);
});
