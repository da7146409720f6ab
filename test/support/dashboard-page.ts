import type { Locator, Page } from "playwright-core";
import { says, seen } from "./browser";

/** What stands on the page, by the names that its readers know. */
export const button = (at: Page | Locator, name: string | RegExp) =>
  at.getByRole("button", { name, exact: typeof name === "string" });

export const link = (at: Page | Locator, name: string | RegExp) =>
  at.getByRole("link", { name, exact: typeof name === "string" });

export const table = (at: Page | Locator, name: string | RegExp) => at.getByRole("table", { name });

export const rowOf = (at: Page | Locator, text: string | RegExp) => at.getByRole("row").filter({ hasText: text });

export const dialog = (page: Page) => page.getByRole("dialog");

export const title = (page: Page, name: string | RegExp) => page.getByRole("heading", { level: 1, name });

export const main = (page: Page) => page.getByRole("main");

/** In the open dialog: why, and then the button that does it. */
export async function because(page: Page, note: string, submit: string | RegExp): Promise<void> {
  const open = dialog(page);
  await open.getByRole("textbox", { name: /^(Why|How was it dealt with)/ }).fill(note);
  await button(open, submit).click();
}

/** The act that harms nothing, from its button to its result: proves that acts reach the server. */
export async function sweepNow(page: Page): Promise<void> {
  await link(page, "Servers and nodes").click();
  await button(page, "Sweep now").click();
  await because(page, "does it work?", "Sweep now");
  await says(dialog(page), "Swept");
  await button(dialog(page), "Close").click();
}

/** Another page of the same document, as a link to it. */
export async function goTo(page: Page, hash: string, heading: string | RegExp): Promise<void> {
  await page.evaluate(`location.hash = ${JSON.stringify(hash)}`);
  await seen(title(page, heading));
}

export const PAGES = [
  { hash: "#/overview", heading: "Overview" },
  { hash: "#/dead", heading: "Dead messages" },
  { hash: "#/keys", heading: "Held keys" },
  { hash: "#/messages", heading: "Messages" },
  { hash: "#/groups", heading: "Groups" },
  { hash: "#/servers", heading: "Servers and nodes" },
  { hash: "#/parked", heading: "Parked messages" },
  { hash: "#/acts", heading: "Acts" }
] as const;
