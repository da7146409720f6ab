import type { Locator } from "playwright-core";
import { expect, it } from "vitest";
import type { AuditRow, BulkRow } from "../../src";
import type { Page as Rows } from "../../src/operator/operations";
import { enter, focused, gone, says, seen, tabTo, visit } from "../support/browser";
import { button, dialog, link, main, rowOf, table, title } from "../support/dashboard-page";
import { world } from "../support/dashboard-world";

/** More than a hundred, so that their number is to be typed. */
const DEAD = 121;
const ids = Array.from({ length: DEAD }, (_, n) => `order-${n}`);

/** How somebody works the page. */
interface Hands {
  press(locator: Locator): Promise<void>;
  type(locator: Locator, text: string): Promise<void>;
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

async function night({ press, type }: Hands): Promise<void> {
  const { url, desk, mail, dies } = await world();
  await dies(...ids);
  const { page, context } = await visit(`${url}#/dead?since=1h`, { user: "ops1" });
  const field = (name: string | RegExp) => dialog(page).getByRole("textbox", { name });

  // The alert leads to the causes, a cause to its messages, one of them to all that is known of it.
  await says(rowOf(table(page, "Causes"), "mail"), /mail.*order\.created.*MailError \(EAUTH\).*mail-2 only/);
  await press(link(page, /^Show 121 messages/));
  await seen(page.getByRole("heading", { name: "This cause" }));
  await press(link(table(page, "Messages"), /^order-/).first());
  await seen(title(page, "Message"));
  await says(page.getByRole("listitem"), /dead in mail: .*535 authentication failed/);

  // It is mended, and one is tried first.
  mail.broken = false;
  await press(button(page, "Retry one first"));
  await says(dialog(page), /It goes again to:\s*mail.*Not to:\s*stock \(handled/s);
  await focused(button(dialog(page), "Cancel"));
  await says(dialog(page), "as ops1");
  await press(button(dialog(page), "Retry 1 message"));
  await says(dialog(page), "Say why");
  await type(field("Why"), "the password is right again");
  await press(button(dialog(page), "Retry 1 message"));
  await gone(dialog(page));
  await says(page.getByRole("status"), /handled by mail on mail-2 in \d+ ms/);
  expect(mail.handled).toHaveLength(1);

  // The others at a rate; so many that their number is to be typed. The note is the same, unless it is changed.
  await press(link(page, "The others of this cause"));
  await press(button(page, "Retry the other 120"));
  await says(dialog(page), /failed in group mail/);
  await focused(button(dialog(page), "Cancel"));
  await type(field("Per second, at most"), "1");
  await press(button(dialog(page), "Retry 120 messages"));
  await says(dialog(page), "This is not 120.");
  await type(field(/^Type 120/), "120");
  await press(button(dialog(page), "Retry 120 messages"));
  await gone(dialog(page));
  await says(main(page), /\d+ of 120 sent again/);

  // A closed tab is no end of it, and a colleague sees whose it is.
  const address = page.url();
  await page.close();
  const again = await context.newPage();
  await again.goto(address);
  await says(main(again), /\d+ of 120 sent again/);
  const { page: other } = await visit(`${url}#/acts`, { user: "ops2" });
  await says(main(other), "started by ops1");
  // At this rate it takes two minutes.
  const [bulk] = (await desk.call<Rows<BulkRow>, object>("reliable.bulks", {})).rows;
  await desk.call("reliable.bulkChange", { id: bulk?.bulkID, change: "rate", perSecond: 1000 });
  await says(main(again), "120 of 120 sent again · 120 handled");
  expect(mail.handled.toSorted()).toEqual(ids.toSorted());

  // Its record, and a summary for the handover.
  await press(button(again, "Copy summary"));
  await seen(again.getByText("Copied"));
  await press(link(again, "Acts"));
  await says(rowOf(table(again, "Record"), "120"), /retry.*ops1.*the password is right again/i);
  const { rows } = await desk.call<Rows<AuditRow>, object>("reliable.audits", {});
  expect(rows).toMatchObject([
    { act: "retry", by: "ops1", matched: 120, done: 120, state: "done", note: "the password is right again" },
    { act: "retry", by: "ops1", id: expect.stringMatching(/^order-/), state: "done" }
  ]);
}

it("the night, by mouse: from the alert to the summary for the handover", () => night(mouse));

it("the night, by keyboard alone", () => night(keyboard));
