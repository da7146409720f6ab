import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Locator,
  type Page
} from "playwright-core";
import { expect, inject, onTestFinished } from "vitest";
import { until } from "./brokers";

/** Long enough for a machine that does other things too: nothing waits that long but what is broken. */
export const PATIENCE_MS = 30_000;

let connected: Promise<Browser> | undefined;

export interface Visit extends BrowserContextOptions {
  /** Who is logged in: the cookie that the test gateway knows. */
  user?: string;
  /** What may be said in the console: answers other than 2xx, where the test is about them. */
  expected?: RegExp[];
}

export interface Visitor {
  context: BrowserContext;
  page: Page;
  /** Errors in the console or in the page, violations of the CSP, requests to other hosts. */
  problems: string[];
}

/**
 * A person with a browser of their own, who has opened this address. What goes wrong in it, and is not `expected`, fails
 * the test.
 */
export async function visit(url: string, { user, expected = [], ...options }: Visit = {}): Promise<Visitor> {
  connected ??= chromium.connect(inject("browser"));
  const browser = await connected;
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const { host, origin } = new URL(url);
  const problems: string[] = [];
  const add = (text: string) => {
    if (!expected.some(pattern => pattern.test(text))) problems.push(text);
  };
  onTestFinished(async ({ task }) => {
    if (task.result?.state === "fail") await describe(context, problems);
    await context.close();
    expect(problems).toEqual([]);
  }, 60_000);
  // What the CSP refuses is told there too.
  context.on("console", message => {
    if (message.type() === "error" || message.type() === "warning")
      add(`${message.type()}: ${message.text()} ${message.location().url}`);
  });
  context.on("weberror", error => add(`page: ${String(error.error())}`));
  context.on("request", request => {
    const asked = new URL(request.url());
    if (asked.host !== host && !["data:", "blob:"].includes(asked.protocol)) add(`asked another host: ${asked.href}`);
  });
  if (user) await context.addCookies([{ name: "user", value: user, url: origin }]);
  const page = await context.newPage();
  await page.goto(url);
  return { context, page, problems };
}

/** What can be seen on it where a test has failed. */
async function describe(context: BrowserContext, problems: string[]): Promise<void> {
  for (const page of context.pages()) {
    const seen = await page.ariaSnapshot({ timeout: 3000 }).catch(String);
    console.log(`--- ${page.url()}\n${seen.slice(0, 12_000)}`);
  }
  if (problems.length) console.log(`--- said by the browser:\n${problems.join("\n")}`);
}

/** Waits until it can be seen. */
export async function seen(locator: Locator): Promise<Locator> {
  await locator.first().waitFor({ state: "visible" });
  return locator;
}

export async function gone(locator: Locator): Promise<void> {
  await until(
    () => locator.filter({ visible: true }).count(),
    count => count === 0,
    PATIENCE_MS
  );
}

/** Waits until one of them has this text. */
export function says(locator: Locator, text: RegExp | string): Promise<Locator> {
  return seen(locator.filter({ hasText: text }));
}

const hasFocus = (locator: Locator) => locator.evaluate(element => element.matches(":focus"));

export async function focused(locator: Locator): Promise<void> {
  await until(() => hasFocus(locator), Boolean, PATIENCE_MS);
}

/** `element` stands before what has the focus. */
const isBefore = (locator: Locator) =>
  locator.evaluate(element => {
    const { activeElement, body } = element.ownerDocument;
    return activeElement !== body && Boolean(activeElement && element.compareDocumentPosition(activeElement) & 4);
  });

/** By keyboard alone: Tab, or Shift and Tab, until it has the focus, as somebody would who looks for it. */
export async function tabTo(locator: Locator, limit = 200): Promise<void> {
  await seen(locator);
  const key = (await isBefore(locator)) ? "Shift+Tab" : "Tab";
  for (let pressed = 0; pressed < limit; pressed++) {
    if (await hasFocus(locator)) return;
    await locator.page().keyboard.press(key);
  }
  throw new Error(`${limit} times ${key}, and no focus on ${String(locator)}`);
}

/** Tab until it has the focus, then Enter. */
export async function enter(locator: Locator): Promise<void> {
  await tabTo(locator);
  await locator.page().keyboard.press("Enter");
}

/** Nothing is to be scrolled sideways but tables in boxes of their own. */
export async function fits(page: Page): Promise<void> {
  const [wide, width] = await page.evaluate<[number, number]>(
    "[Math.max(document.body.scrollWidth, document.documentElement.scrollWidth), document.documentElement.clientWidth]"
  );
  expect(wide, `the body is scrolled sideways at ${page.url()}`).toBeLessThanOrEqual(width);
}
