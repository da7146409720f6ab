import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect } from "vitest";
import { type Fault, runFault } from "./run";
import type { Servers } from "./servers";

const MESSAGES = 2000;

/** A row of the matrix as a test. `options`: how the command reaches that row. */
export async function nothingIsLost(
  servers: Servers,
  { faults, name, seed, options = "" }: { faults: Fault[]; name: string; seed: number; options?: string }
): Promise<void> {
  const fault = faults.find(each => each.name === name);
  if (!fault) throw new Error(`There is no fault ${name}.`);
  const folder = mkdtempSync(path.join(tmpdir(), "faults-"));
  const line = process.env["MOLECULER_LINE"] === "0.14" ? "0.14" : "0.15";
  const outcome = await runFault(fault, servers, { seed, messages: MESSAGES, line, folder, progress: () => undefined });
  expect(
    outcome.complaints,
    `npm run faults -- ${options}--only ${name} --seed ${seed} --messages ${MESSAGES}; journals and logs in ${folder}`
  ).toEqual([]);
  const { promised, redelivered, recoverMs, pauseMs } = outcome.verdict;
  console.log(
    `${name} (seed ${seed}): ${promised} promised, 0 lost, ${redelivered} delivered again, recovered in ${recoverMs} ms, longest pause ${pauseMs} ms, ${outcome.seconds} s`
  );
}
