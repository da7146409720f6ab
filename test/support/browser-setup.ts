import { existsSync } from "node:fs";
import { type BrowserServer, chromium } from "playwright-core";
import type { TestProject } from "vitest/node" with { "resolution-mode": "import" };
import { findChromium, LAUNCH, plain } from "./chromium";

const PAGE = "dist/src/dashboard/assets/index.html";

declare global {
  var reliableTestBrowser: { server: Promise<BrowserServer>; users: number } | undefined;
}

async function launch(): Promise<BrowserServer> {
  if (!existsSync(PAGE))
    throw plain(`The browser tests look at the built page, and there is no ${PAGE}. Make it: npm run build`);
  await findChromium();
  return chromium.launchServer(LAUNCH);
}

/** One browser for all projects and workers; each test has a context of its own in it (`browser.ts`). */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  globalThis.reliableTestBrowser ??= { server: launch(), users: 0 };
  const shared = globalThis.reliableTestBrowser;
  project.provide("browser", (await shared.server).wsEndpoint());
  shared.users++;
  return async () => {
    if (--shared.users === 0) await (await shared.server).close();
  };
}

declare module "vitest" {
  interface ProvidedContext {
    browser: string;
  }
}
