import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import type { AuditRow } from "../../src";
import type { Page as Rows } from "../../src/operator/operations";
import { until } from "../support/brokers";
import { enter, focused, gone, PATIENCE_MS, says, seen, tabTo, visit } from "../support/browser";
import { type World, world } from "../support/dashboard";

/** More than a hundred, so that their number is to be typed. */
const DEAD = 121;
const ids = Array.from({ length: DEAD }, (_, n) => `order-${n}`);

const button = (page: Page, name: string | RegExp) =>
  page.getByRole("button", { name, exact: typeof name === "string" });
const link = (page: Page, name: string | RegExp) => page.getByRole("link", { name, exact: typeof name === "string" });
const dialog = (page: Page) => page.getByRole("dialog");

/** How somebody works the page. */
interface Hands {
  press(locator: ReturnType<Page["getByRole"]>): Promise<void>;
  type(locator: ReturnType<Page["getByRole"]>, text: string): Promise<void>;
}

const mouse: Hands = {
  press: locator => locator.click(),
  type: (locator, text) => locator.fill(text)
};

const keyboard: Hands = {
  press: enter,
  async type(locator, text) {
    await tabTo(locator);
    await locator.page().keyboard.press("ControlOrMeta+A");
    await locator.page().keyboard.type(text);
  }
};

async function handled(of: World, count: number): Promise<void> {
  await until(
    () => of.mail.handled.length,
    seen => seen >= count,
    PATIENCE_MS
  );
}

async function night(hands: Hands): Promise<void> {
  const night = await world();
  await night.dies(...ids);
  const alert = `${night.url}#/dead?since=1h`;
  const { page, context } = await visit(alert, { user: "ops1" });

  // The alert leads to the causes, a cause to its messages, one of them to all that is known of it.
  const causes = page.getByRole("table", { name: "Causes" });
  await says(
    causes.getByRole("row"),
    /121.*mail.*order\.created.*MailError.*EAUTH.*535 authentication failed.*mail-2/s
  );
  await hands.press(page.getByRole("link", { name: "Show 121 messages" }));
  await hands.press(
    page
      .getByRole("table", { name: "Messages" })
      .getByRole("link", { name: /^order-/ })
      .first()
  );
  await seen(page.getByRole("heading", { name: /order-/, level: 1 }));
  await says(page.getByRole("list", { name: "Timeline" }), "dead in mail");

  // It is mended, and one is tried first.
  night.mail.broken = false;
  await hands.press(button(page, "Retry one first"));
  await says(dialog(page), /It goes again to:\s*mail.*Not to:\s*stock/s);
  await focused(button(page, "Cancel"));
  await says(dialog(page), "ops1");
  await hands.press(button(page, "Retry 1 message"));
  await says(dialog(page), "Say why");
  await hands.type(page.getByRole("textbox", { name: "Why" }), "the password is right again");
  await hands.press(button(page, "Retry 1 message"));
  await gone(dialog(page));
  await seen(page.getByText(/handled by mail on mail-2 in \d+ ms/).first());
  expect(night.mail.handled).toHaveLength(1);

  // The others at a rate; so many that their number is to be typed.
  await hands.press(link(page, "The others of this cause"));
  await hands.press(button(page, "Retry the other 120"));
  await says(dialog(page), "order.created");
  await focused(button(page, "Cancel"));
  await hands.type(page.getByRole("spinbutton", { name: "Per second, at most" }), "15");
  await hands.type(page.getByRole("textbox", { name: /^Type 120/ }), "120");
  await hands.press(button(page, "Retry 120 messages"));
  await gone(dialog(page));
  await says(page.getByRole("main"), /\d+ of 120 sent again/);

  // A closed tab is no end of it, and a colleague sees whose it is.
  const acts = page.url();
  await page.close();
  const again = await context.newPage();
  await again.goto(acts);
  await says(again.getByRole("main"), /\d+ of 120 sent again/);
  const other = (await visit(`${night.url}#/acts`, { user: "ops2" })).page;
  await says(other.getByRole("main"), "started by ops1");
  await handled(night, DEAD);
  await says(again.getByRole("main"), /120 of 120 sent again · 120 handled/);

  // Its record, and a summary for the handover.
  await hands.press(button(again, "Copy summary"));
  await seen(again.getByText("Copied"));
  await again.goto(`${night.url}#/acts`);
  await says(
    again.getByRole("table", { name: "Record" }).getByRole("row"),
    /retry.*ops1.*the password is right again/s
  );
  const { rows } = await night.desk.call<Rows<AuditRow>, object>("reliable.audits", {});
  expect(rows).toMatchObject([
    { act: "retry", by: "ops1", matched: 120, done: 120, state: "done" },
    { act: "retry", by: "ops1", id: expect.stringMatching(/^order-/), state: "done" }
  ]);
}

it("the night, by mouse: from the alert to the summary for the handover", () => night(mouse));

it("the night, by keyboard alone", () => night(keyboard));
