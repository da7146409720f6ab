import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { FAULTS } from "./matrix";
import { runFault } from "./run";
import { Servers } from "./servers";

/** The short matrix of CI: fixed seeds, and one fault with one seed that nobody has chosen. */
const SUBSET = [
  ["kill-consumer", 11],
  ["kill-callback", 12],
  ["rabbitmq-kill", 13],
  ["store-kill", 14],
  ["network-cut-frame", 15],
  ["foreign-messages", 16],
  ["kill-bulk", 17]
] as const;
const MESSAGES = 2000;

// They take minutes.
const rest = FAULTS.filter(({ name }) => !name.startsWith("awaits-") && !SUBSET.some(([chosen]) => chosen === name));
const seed = Math.floor(Math.random() * 2 ** 31);
const surprise = [rest[seed % rest.length]?.name ?? "calm", seed] as const;

let servers: Servers;
beforeAll(async () => {
  servers = await Servers.start();
}, 600_000);
afterAll(() => servers?.wipe(), 120_000);

it.each([...SUBSET, surprise])("%s with seed %i: nothing is lost", { timeout: 900_000 }, async (name, seed) => {
  const fault = FAULTS.find(fault => fault.name === name);
  if (!fault) throw new Error(`There is no fault ${name}.`);
  const folder = mkdtempSync(path.join(tmpdir(), "faults-"));
  const line = process.env["MOLECULER_LINE"] === "0.14" ? "0.14" : "0.15";
  const outcome = await runFault(fault, servers, { seed, messages: MESSAGES, line, folder, progress: () => undefined });
  expect(
    outcome.complaints,
    `npm run faults -- --only ${name} --seed ${seed} --messages ${MESSAGES}; journals and logs in ${folder}`
  ).toEqual([]);
  console.log(
    `${name} (seed ${seed}): ${outcome.verdict.promised} promised, 0 lost, ${outcome.verdict.redelivered} delivered again, recovered in ${outcome.verdict.recoverMs} ms, ${outcome.seconds} s`
  );
});
