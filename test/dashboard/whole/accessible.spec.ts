import type { Page } from "playwright-core";
import { describe, expect, it } from "vitest";
import { accessible } from "../../support/axe";
import { fits, gone, seen, visit } from "../../support/browser";
import { button, dialog, goTo, link, PAGES } from "../../support/dashboard-page";
import { fill } from "../../support/dashboard-rows";
import { type World, world } from "../../support/dashboard-world";

const SCHEMES = ["light", "dark"] as const;
const SIZES = [
  { width: 1280, height: 900 },
  { width: 360, height: 740 }
];
const VIEWS = SCHEMES.flatMap(colorScheme => SIZES.map(viewport => ({ colorScheme, viewport })));

const MORE = [
  { hash: "#/dead?group=mail&event=order.created&errorType=EAUTH", heading: "Dead messages" },
  { hash: "#/message?id=order-77", heading: "Message" },
  { hash: "#/parked?id=parked%20order-77", heading: "Parked messages" }
];

interface Opens {
  name: string;
  hash: string;
  heading: string;
  button(page: Page): ReturnType<Page["getByRole"]>;
}

const DIALOGS: Opens[] = [
  ...["Retry one first", "Resolve", "Discard"].map(name => ({
    name,
    hash: "#/message?id=order-77",
    heading: "Message",
    button: (page: Page) => button(page, name)
  })),
  ...["Retry", "Resolve", "Discard"].map(name => ({
    name: `${name} all`,
    hash: "#/dead?group=mail",
    heading: "Dead messages",
    button: (page: Page) => button(page, new RegExp(`^${name} all`))
  })),
  ...["Pause mail", "Forget invoices", "Replay mail"].map(name => ({
    name,
    hash: "#/groups",
    heading: "Groups",
    button: (page: Page) => button(page, name)
  })),
  { name: "Skip", hash: "#/keys", heading: "Held keys", button: page => button(page, "Skip order-7 in mail") },
  { name: "Sweep", hash: "#/servers", heading: "Servers and nodes", button: page => button(page, "Sweep now") },
  {
    name: "Erase",
    hash: "#/messages?key=order%3D77",
    heading: "Messages",
    button: page => button(page, "Erase payloads")
  },
  {
    name: "Discard what is parked",
    hash: "#/parked?id=parked%20order-77",
    heading: "Parked messages",
    button: page => button(page, "Discard")
  }
];

async function busy(): Promise<World> {
  const night = await world();
  await night.dies("order-1", "order-2");
  await fill(night.desk);
  return night;
}

describe.each(VIEWS)("$colorScheme, $viewport.width px", view => {
  const what = `${view.colorScheme}, ${view.viewport.width} px`;

  it("every page is accessible, and fits", async () => {
    const { url } = await busy();
    const { page } = await visit(url, { user: "ops1", ...view });
    for (const { hash, heading } of [...PAGES, ...MORE]) {
      await goTo(page, hash, heading);
      await gone(page.getByText("Loading …"));
      await accessible(page, `${hash}, ${what}`);
      await fits(page);
    }
  });

  it("every dialog is accessible, fits, begins at Cancel, and gives the focus back", async () => {
    const { url } = await busy();
    const { page } = await visit(url, { user: "ops1", ...view });
    for (const { name, hash, heading, button: find } of DIALOGS) {
      await goTo(page, hash, heading);
      const opener = await seen(find(page));
      await opener.click();
      await seen(dialog(page));
      await gone(page.getByText(/^(Loading|Counting) …/));
      await accessible(page, `the dialog of ${name}, ${what}`);
      await fits(page);
      const cancel = button(dialog(page), "Cancel");
      expect([name, await cancel.evaluate(element => element.matches(":focus"))]).toEqual([name, true]);
      await page.keyboard.press("Escape");
      await gone(dialog(page));
      expect([name, await opener.evaluate(element => element.matches(":focus"))]).toEqual([name, true]);
    }
  });
});

it("the first stops of the keyboard are the way to the content and the pages", async () => {
  const { url } = await busy();
  const { page } = await visit(url, { user: "ops1" });
  await seen(link(page, "Overview"));
  await page.keyboard.press("Tab");
  expect(await button(page, "Skip to the content").evaluate(element => element.matches(":focus"))).toBe(true);
  await page.keyboard.press("Enter");
  expect(await page.getByRole("main").evaluate(element => element.matches(":focus"))).toBe(true);
});
