import { afterAll, beforeAll, it } from "vitest";
import { FAULTS } from "./matrix";
import { Servers } from "./servers";
import { nothingIsLost } from "./subset";

/** The short matrix of CI: fixed seeds, and one fault with one seed that nobody has chosen. */
const SUBSET = [
  ["kill-consumer", 11],
  ["kill-callback", 12],
  ["rabbitmq-kill", 13],
  ["store-kill", 14],
  ["network-cut-frame", 15],
  ["foreign-messages", 16],
  ["kill-bulk", 17],
  ["kill-later", 18],
  ["kill-ordered", 19]
] as const;

// They take minutes.
const rest = FAULTS.filter(({ name }) => !name.startsWith("awaits-") && !SUBSET.some(([chosen]) => chosen === name));
const seed = Math.floor(Math.random() * 2 ** 31);
const surprise = [rest[seed % rest.length]?.name ?? "calm", seed] as const;

let servers: Servers;
beforeAll(async () => {
  servers = await Servers.start();
}, 600_000);
afterAll(() => servers?.wipe(), 120_000);

it.each([...SUBSET, surprise])("%s with seed %i: nothing is lost", { timeout: 900_000 }, (name, seed) =>
  nothingIsLost(servers, { faults: FAULTS, name, seed })
);
