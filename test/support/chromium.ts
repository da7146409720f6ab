import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import type { LaunchOptions } from "playwright-core";

const run = promisify(execFile);
const PACKAGE = "chromium";

/** `CHROMIUM` names another one. */
const PATH = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

/** Nothing of the browser's own goes out: what a test sees on the network is the page's. */
export const LAUNCH: LaunchOptions = {
  executablePath: PATH,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync"
  ]
};

/** Debian's chromium, installed where that can be done without asking; else an error with the command that helps. */
export async function findChromium(): Promise<void> {
  if (existsSync(PATH)) return;
  const help = `The browser tests need Chromium at ${PATH}. Debian, as root: apt-get install -y ${PACKAGE}. Elsewhere: CHROMIUM=/path/to/chromium names yours.`;
  if (!existsSync("/etc/debian_version") || process.getuid?.() !== 0 || process.env["CHROMIUM"]) throw plain(help);
  const apt = (...args: string[]) =>
    run("apt-get", args, { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }, maxBuffer: 64 * 1024 * 1024 });
  const install = () => apt("install", "-y", "-qq", "--no-install-recommends", PACKAGE);
  console.log(`browser: apt-get install ${PACKAGE}`);
  try {
    await install().catch(async () => {
      await apt("update", "-qq");
      await install();
    });
  } catch (error) {
    throw plain(`${help} That was tried: ${(error as Error).message}`);
  }
  if (!existsSync(PATH)) throw plain(`${help} It was installed, and is not there.`);
}

/** What is wrong is around us, not in this file: a stack would only hide it. */
export function plain(message: string): Error {
  const error = new Error(message);
  error.stack = `Error: ${message}`;
  return error;
}
