import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { startNode } from "../../support/child";
import { folders, storeAt, using } from "../../support/embedded";
import type { EmbeddedNode } from "../../support/embedded-node";

/** `EMBEDDED_KILLS=200` is the long run; most of a kill is the start of the next process. */
const KILLS = Number(process.env["EMBEDDED_KILLS"] ?? 20);
/** Folders at a time. */
const LANES = 2;
const SLOWEST_MS = 6000;
/** On a machine that does much else at the same time. */
const START_MS = 90_000;

const newFolder = folders();

/** One in four dies in its opening, the others under load; the longest may reach a compaction. */
async function kill(path: string, turn: number): Promise<string[]> {
  const node = await startNode("test/support/embedded-node.ts", {
    env: { NODE: JSON.stringify({ path, load: 40 } satisfies EmbeddedNode) }
  });
  await node.next(turn % 4 ? "started" : "opening", START_MS);
  await sleep(Math.random() * (turn % 5 ? 400 : 2500));
  await node.kill("SIGKILL");
  return node.all<string>("promised");
}

it(`${KILLS} SIGKILLs at random instants under load: nothing promised is missing`, {
  timeout: START_MS + KILLS * SLOWEST_MS
}, async () => {
  let left = KILLS;
  let loaded = 0;
  const lanes = Array.from({ length: LANES }, async () => {
    const folder = newFolder();
    const promised: string[] = [];
    while (left-- > 0) {
      const ids = await kill(folder, left);
      promised.push(...ids);
      if (ids.length) loaded++;
    }
    await using(storeAt(folder), async store => {
      const found = new Set((await store.messages.find(promised)).map(({ _id }) => _id));
      expect(promised.filter(id => !found.has(id))).toEqual([]);
    });
    return promised.length;
  });
  const promised = await Promise.all(lanes);
  console.log(`${KILLS} kills, ${loaded} of them under load; promised: ${promised.join(" + ")}`);
  expect(loaded).toBeGreaterThan(KILLS / 3);
});
