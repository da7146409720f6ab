import type { Page } from "playwright-core";
import { describe, expect, it } from "vitest";
import { fits, gone, says, seen, visit } from "../../support/browser";
import { because, button, dialog, goTo, main, PAGES } from "../../support/dashboard-page";
import { fill, plainTexts, type Texts } from "../../support/dashboard-rows";
import { world } from "../../support/dashboard-world";
import { storeOf } from "../../support/runtime";
import { story } from "../../support/services";

const markup = (where: string) =>
  `</script></title></textarea><img src=x onerror="window.ran='${where}'"><svg onload="window.ran='${where}'">${where}`;
const long = (where: string) => `${where}-${"x".repeat(240)}`;
/** It turns what comes after it around, unless it is held in. */
const rightToLeft = (where: string) => `‮${where} مرحبا בדיקה`;
const odd = (where: string) => `${where}/a?b#c&d=e%20f%ZZ'"\\ \u0000\u0007\u200b${"Z̸̡̢̛̗̘̙̜̝̞̟̠̖̣̤̥̦̩̪̫̬̭̮̯̰̱̲̳".repeat(3)}`;

const texts = (of: (where: string) => string): Texts => ({
  ...plainTexts,
  id: of("id"),
  event: of("event").replace(/\p{Cc}/gu, ""),
  group: of("group").replace(/\p{Cc}/gu, ""),
  producer: of("producer"),
  error: {
    name: of("error"),
    code: of("code"),
    type: of("type"),
    message: of("message"),
    stack: of("stack"),
    data: of("data")
  },
  key: `key=${of("value").slice(0, 90)}`,
  orderKey: of("order key").replace(/\p{Cc}/gu, ""),
  payload: { [of("field")]: of("payload"), html: of("html") },
  meta: { [of("meta")]: of("meta value") },
  nodeID: of("node"),
  note: of("note"),
  by: of("operator"),
  queue: of("queue").slice(0, 120),
  reason: of("reason")
});

/** Each page, the message, what is parked: nothing has run, nothing is lost, and the body fits. */
async function holds(page: Page, of: Texts): Promise<void> {
  const message = `#/message?id=${encodeURIComponent(of.id)}`;
  const parked = `#/parked?id=${encodeURIComponent(`parked ${of.id}`)}`;
  for (const hash of [...PAGES.map(({ hash }) => hash), message, parked]) {
    await goTo(page, hash, /./);
    await gone(page.getByText("Loading …"));
    await fits(page);
    expect(await page.getByRole("alert").allInnerTexts(), hash).toEqual([]);
    expect(await page.evaluate("window.ran"), hash).toBeUndefined();
    expect(await page.locator("main img, main script, main svg[onload], main iframe").count(), hash).toBe(0);
  }
}

describe.each([
  ["markup", markup],
  ["long names", long],
  ["right to left", rightToLeft],
  ["odd characters", odd]
])("%s in every column", (_, of) => {
  it.each([1280, 360])("is text, and the layout holds at %d px", async width => {
    const mine = texts(of);
    const night = await world({ dashboard: { badge: { text: of("badge").slice(-40) } } });
    await fill(night.desk, mine);
    const now = new Date();
    await storeOf(night.desk).subscriptions.announce([
      {
        pattern: mine.event,
        group: mine.group,
        queue: mine.queue,
        nodeID: mine.nodeID,
        service: of("service"),
        firstSeenAt: now,
        seenAt: now
      }
    ]);
    const { page } = await visit(night.url, { user: "ops1", viewport: { width, height: 800 } });
    await holds(page, mine);
  });
});

it("a message with such an id can be acted on: its link, its dialog and its record are the same text", async () => {
  const night = await world();
  const id = markup("id");
  await fill(night.desk, { ...plainTexts, id });
  const { page } = await visit(`${night.url}#/messages?idPrefix=${encodeURIComponent(id.slice(0, 20))}`, {
    user: "ops1"
  });
  await page.getByRole("link", { name: id, exact: true }).first().click();
  await button(page, "Resolve").click();
  await because(page, markup("note"), "Resolve 1 message");
  await gone(dialog(page));
  await says(main(page), markup("note"));
  expect((await story(night.desk, id)).status).toBe("resolved");
  expect(await page.evaluate("window.ran")).toBeUndefined();
});

it("megabytes of payload and error are shown in parts, and the page stays quick", async () => {
  const night = await world({ options: { maxPayloadBytes: 8 * 1024 * 1024 } });
  night.mail.error = () =>
    Object.assign(new Error(`535 ${"no such mailbox ".repeat(700_000)}`), { name: "MailError", retryable: false });
  const huge = "<b>no</b>".repeat(300_000);
  await night.emit("order.created", { huge }, { id: "order-77" });
  const { page } = await visit(`${night.url}#/message?id=order-77`, { user: "ops1" });
  await says(main(page), "535 no such mailbox");
  await seen(button(page, /^Show more/).first());
  await fits(page);
  const began = Date.now();
  await goTo(page, "#/dead", "Dead messages");
  await goTo(page, "#/message?id=order-77", "Message");
  await seen(button(page, /^Show more/).first());
  // A hundred times what it takes; with all of it in the page it takes minutes.
  expect(Date.now() - began).toBeLessThan(20_000);
  expect(Number(await page.evaluate("document.body.textContent.length"))).toBeLessThan(200_000);
});
