#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { helpText, readFlags, UsageError } from "./flags";
import { type Settings, settingsOf } from "./settings";

/** How the process ends: a mistake in how it was called, or a failure. */
const EXIT = { usage: 2, failed: 1 } as const;

/** On a second signal, or if the stop takes longer than a node's stop may: whoever asks twice does not want to wait. */
const STOP_MS = 15_000;

/** Other users of the machine see what a process was called with, and addresses have passwords in them. */
process.title = "moleculer-reliable-emit dashboard";

async function main(): Promise<void> {
  const { command, help, version, given } = readFlags(process.argv.slice(2), process.env);
  if (version) return console.log(versionOf());
  if (help || command === undefined) return console.log(helpText());
  if (command !== "dashboard") throw new UsageError("There is one command: dashboard; see --help.");
  const settings = settingsOf(given);
  findMoleculer();
  await serve(settings);
}

function versionOf(): string {
  const text = readFileSync(join(__dirname, "../../../../package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** It is the user's: the version that their services run on. Nothing of ours that needs it is loaded before. */
function findMoleculer(): void {
  try {
    require.resolve("moleculer");
  } catch {
    throw new UsageError(
      "The package 'moleculer' is not there. Run the command in a project that has it, or install it: npm install moleculer moleculer-reliable-emit"
    );
  }
}

async function serve(settings: Settings): Promise<void> {
  const { failureText, runDashboard, runningText } = require("./run") as typeof import("./run");
  let stop: (() => Promise<void>) | undefined;
  let ending = false;
  const end = () => {
    if (ending) process.exit(EXIT.failed);
    ending = true;
    setTimeout(() => process.exit(EXIT.failed), STOP_MS).unref();
    void stop?.().then(() => process.exit(0));
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, end);
  try {
    stop = await runDashboard(settings);
  } catch (error) {
    console.error(failureText(error));
    process.exit(ending ? 0 : EXIT.failed);
  }
  // A signal came during the start.
  if (ending) {
    await stop();
    process.exit(0);
  }
  console.log(runningText(settings));
}

main().catch(error => {
  console.error(error instanceof UsageError ? error.message : error);
  process.exit(error instanceof UsageError ? EXIT.usage : EXIT.failed);
});
