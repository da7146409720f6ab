import { expect, it } from "vitest";
import { until } from "../../support/brokers";
import { gone, PATIENCE_MS, says, seen, visit } from "../../support/browser";
import { button, dialog, goTo, link, main, table } from "../../support/dashboard-page";
import { world } from "../../support/dashboard-world";

it("filters, pages and dialogs are in the address: a reload, a colleague and the way back see the same", async () => {
  const night = await world();
  await night.dies(...Array.from({ length: 45 }, (_, n) => `order-${n}`));
  const { page } = await visit(`${night.url}#/messages`, { user: "ops1" });
  await page.getByRole("textbox", { name: "Id begins with" }).fill("order-4");
  await button(page, "Apply").click();
  await says(main(page), "6 messages");
  const filtered = page.url();
  expect(filtered).toContain("idPrefix=order-4");
  await page.reload();
  await says(main(page), "6 messages");
  const other = await visit(filtered, { user: "ops2" });
  await says(main(other.page), "6 messages");
  await link(page, "Clear filters").click();
  await says(main(page), "45 messages");
  const firstOf = async () =>
    table(page, "Messages")
      .getByRole("link", { name: /^order-/ })
      .first()
      .textContent();
  const newest = await firstOf();
  await link(page, "Older").click();
  await until(firstOf, first => first !== newest, PATIENCE_MS);
  const older = await firstOf();
  await page.reload();
  await until(firstOf, first => first === older, PATIENCE_MS);
  await page.goBack();
  await until(firstOf, first => first === newest, PATIENCE_MS);

  await goTo(page, "#/message?id=order-7", "Message");
  await button(page, "Resolve").click();
  await seen(dialog(page));
  await page.reload();
  await seen(dialog(page));
  await page.goBack();
  await gone(dialog(page));
});

it("it asks again by itself, says since when it does not, and asks nothing while nobody looks", async () => {
  const night = await world();
  const { page, context } = await visit(night.url, { user: "ops1" });
  const banner = page.getByRole("banner");
  await says(banner, /updated \d/);
  await says(main(page), "Nothing to do.");
  await button(banner, "Pause updates").click();
  await says(banner, /paused/);
  await night.dies("order-77");
  const asked: string[] = [];
  context.on("request", request => void asked.push(request.url()));
  // Longer than a poll.
  await page.waitForTimeout(6000);
  expect(asked).toEqual([]);
  await button(banner, "Resume updates").click();
  await says(main(page), "1 message is dead");
  await link(main(page), /dead/i).first().click();
  await says(main(page), "535 authentication failed");
});
