import { appendFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { expect, it } from "vitest";
import type { Doc } from "../../../src/stores/documents/collection";
import { DataFile, type OpenedFile } from "../../../src/stores/embedded/data-file";
import { toLine } from "../../../src/stores/embedded/lines";
import { folders, messagesFile, recorder, storeAt, using } from "../../support/embedded";
import { handledBy, messageOf } from "../../support/messages";

const newFolder = folders({ memory: true });
const owner = { token: "mine", check: async () => undefined };

/** Makes the file and opens it. */
async function opened(path: string, bytes: Buffer): Promise<OpenedFile> {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
  const result = await DataFile.open(path, owner);
  await result.file.close();
  return result;
}

/** A file as a store leaves it that is killed: rows inserted, changed and deleted, one line after the other. */
async function written(): Promise<Buffer> {
  const folder = newFolder();
  return using(storeAt(folder), async store => {
    for (let i = 0; i < 8; i++) {
      const message = messageOf({ body: Buffer.from(JSON.stringify({ text: "é\n\u0000".repeat(9 * i) })) });
      await store.messages.insert([message]);
      if (i % 2) await store.messages.handled([handledBy(message._id)]);
    }
    await store.prune(new Date(8.64e15), 2);
    for (let i = 0; i < 3; i++) await store.messages.insert([messageOf()]);
    return readFileSync(messagesFile(folder));
  });
}

/** The last whole line of each row in these bytes, by a reading of its own. */
function linesIn(bytes: Buffer): string[] {
  const lines = new Map<string, string>();
  for (const line of bytes.toString().split("\n").slice(0, -1)) {
    const row = JSON.parse(line) as Doc;
    if (row.$$deleted) lines.delete(row._id);
    else lines.set(row._id, `${line}\n`);
  }
  return [...lines.values()].sort();
}

it("cut at each byte of its last 4 KiB, it opens with all that was promised before", { timeout: 600_000 }, async () => {
  const whole = await written();
  expect(whole.length).toBeGreaterThan(8192);
  const promisedAt = new Map<number, string>();
  const look = async (path: string, cut: number) => {
    const bytes = whole.subarray(0, cut);
    const { rows, torn } = await opened(path, bytes);
    const end = bytes.lastIndexOf("\n") + 1;
    // A last line that lacks nothing but its end is a row too.
    const complete = whole[cut] === 10;
    const length = complete ? cut + 1 : end;
    const promised = promisedAt.get(length) ?? linesIn(whole.subarray(0, length)).join("");
    promisedAt.set(length, promised);
    expect([...rows.values()].map(toLine).sort().join("")).toBe(promised);
    if (cut > end && !complete) expect(readFileSync(torn?.kept ?? "")).toEqual(bytes.subarray(end));
    else expect(torn).toBeUndefined();
    // It goes on from there.
    if (cut % 512 === 0) expect((await opened(path, readFileSync(path))).rows).toEqual(rows);
  };
  const cuts = Array.from({ length: 4097 }, (_, i) => whole.length - i);
  const lanes = Array.from({ length: 8 }, async () => {
    const path = messagesFile(newFolder());
    for (let cut = cuts.pop(); cut !== undefined; cut = cuts.pop()) await look(path, cut);
  });
  await Promise.all(lanes);
});

it("a store that opens a cut file says what it has kept where, and takes writes", async () => {
  const folder = newFolder();
  const [first, second] = [messageOf(), messageOf()];
  await using(storeAt(folder), store => store.messages.insert([first]));
  appendFileSync(messagesFile(folder), '{"_id":"half');
  const { logger, lines } = recorder();
  await using(storeAt(folder, "", { logger }), store => store.messages.insert([second]));
  expect(lines).toEqual([expect.stringMatching(/^warn: .*interrupted.*\.torn/)]);
  await using(storeAt(folder), async store =>
    expect(await store.messages.find([first._id, second._id])).toHaveLength(2)
  );
});

it("zeros of a power loss are an interrupted write, wherever in it they are", async () => {
  const path = messagesFile(newFolder());
  const lines = [1, 2, 3, 4, 5].map(n => Buffer.from(toLine({ _id: `m${n}`, n })));
  const from = Buffer.concat(lines.slice(0, 2)).length;
  for (let at = from; at < Buffer.concat(lines).length; at += 3) {
    const bytes = Buffer.concat(lines);
    bytes.fill(0, at, Math.min(at + 9, bytes.length));
    const { rows, torn } = await opened(path, bytes);
    expect([...rows.keys()].slice(0, 2)).toEqual(["m1", "m2"]);
    expect(torn?.kept).toBeDefined();
    expect((await opened(path, readFileSync(path))).rows).toEqual(rows);
  }
});

it("damage that no interrupted write makes is refused, and the file left as it is", async () => {
  const path = messagesFile(newFolder());
  const bytes = Buffer.from(`${toLine({ _id: "m1" })}garbage\n${toLine({ _id: "m2" })}`);
  await expect(opened(path, bytes)).rejects.toThrow(/line 2 of .* is damaged/);
  expect(readFileSync(path)).toEqual(bytes);
  expect(statSync(path).size).toBe(bytes.length);
});
