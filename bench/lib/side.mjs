import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { clean, newNamespace } from "./world.mjs";

const CHILD = fileURLToPath(new URL("child.mjs", import.meta.url));
const ALIAS = fileURLToPath(new URL("../../test/support/alias.cjs", import.meta.url));
const PROFILES = fileURLToPath(new URL("../profiles", import.meta.url));

/** Runs a side ("file.export") in a process of its own, in a namespace of its own that is removed afterwards. */
export async function runSide(
  side,
  params,
  {
    line = process.env.MOLECULER_LINE ?? "0.15",
    profile = false,
    timeoutMs = 600_000,
    namespace = newNamespace(),
    keep = false
  } = {}
) {
  const execArgv = [
    "--require",
    ALIAS,
    ...(profile ? ["--cpu-prof", `--cpu-prof-dir=${PROFILES}`, `--cpu-prof-name=${side}.${Date.now()}.cpuprofile`] : [])
  ];
  try {
    return await new Promise((resolve, reject) => {
      const child = fork(CHILD, [side, JSON.stringify({ ...params, namespace })], {
        execArgv,
        env: { ...process.env, MOLECULER_LINE: line }
      });
      const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
      let result;
      child.on("message", message => (result = message));
      child.on("error", reject);
      child.on("close", (code, signal) => {
        clearTimeout(timer);
        if (result) resolve(result);
        else reject(new Error(`${side} ended (${signal ?? code}) without a result.`));
      });
    });
  } finally {
    if (!keep) await clean(namespace);
  }
}

/** Runs the sides of a round in turn, the other way round in every second one. */
export async function inTurn(round, sides) {
  const entries = Object.entries(sides);
  const results = {};
  for (const [name, run] of round % 2 ? entries : entries.toReversed()) results[name] = await run();
  return results;
}
