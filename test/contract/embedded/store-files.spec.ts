import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { uuidv7 } from "uuidv7";
import { describe, expect, it } from "vitest";
import { folders, messagesFile, storeAt, using } from "../../support/embedded";
import { handledBy, messageOf, parkedOf } from "../../support/messages";

const newFolder = folders();

describe("files", () => {
  it("keeps everything, bytes included, until it is opened again", async () => {
    const folder = newFolder();
    const message = messageOf({ body: Buffer.from([0, 200, 10]), next: { "a.b": new Date(5) } });
    const parked = parkedOf();
    await using(storeAt(folder), async store => {
      await store.messages.insert([message]);
      await store.parked.add([parked]);
    });
    await using(storeAt(folder), async store => {
      expect(await store.messages.find([message._id])).toEqual([message]);
      expect(await store.parked.find([parked._id])).toEqual([parked]);
      expect(await store.messages.due({ now: new Date(8.64e15), limit: 5 })).toHaveLength(1);
    });
  });

  it("keeps namespaces apart, also those that are no file names", async () => {
    const folder = newFolder();
    await using(storeAt(folder, "../a/b"), async store => {
      await store.messages.insert([messageOf()]);
      await using(storeAt(folder, "c"), async other => expect((await other.messages.stats()).byStatus.pending).toBe(0));
    });
    expect(readdirSync(folder).filter(name => name.includes("messages"))).toHaveLength(2);
  });

  it("is shared by the stores of a process and freed by the last one", async () => {
    const folder = newFolder();
    const message = messageOf();
    const first = storeAt(folder);
    await using(storeAt(folder), async second => {
      await first.start();
      await second.messages.insert([message]);
      expect(await first.messages.find([message._id])).toHaveLength(1);
    });
    expect(await first.messages.find([message._id])).toHaveLength(1);
    expect(existsSync(join(folder, "reliable.lock"))).toBe(true);
    // Closing and opening at once must neither lose what is being written nor find the lock taken.
    const third = storeAt(folder);
    const many = Array.from({ length: 2000 }, () => messageOf());
    await Promise.all([first.messages.insert(many), first.close(), third.start()]);
    expect(await third.messages.find([message, ...many].map(({ _id }) => _id))).toHaveLength(2001);
    await third.close();
    expect(existsSync(join(folder, "reliable.lock"))).toBe(false);
  });

  it("does not grow for ever", async () => {
    const folder = newFolder();
    await using(storeAt(folder), async store => {
      const ids = Array.from({ length: 400 }, () => messageOf());
      await store.messages.insert(ids);
      for (let round = 0; round < 16; round++)
        await store.messages.postponed(
          ids.map(({ _id }) => _id),
          new Date(round)
        );
    });
    const lines = readFileSync(messagesFile(folder), "utf8").split("\n").length;
    expect(lines).toBeLessThan(6000);
  });

  it("refuses a damaged file instead of dropping what it cannot read", async () => {
    const folder = newFolder();
    await using(storeAt(folder), store => store.messages.insert(Array.from({ length: 50 }, () => messageOf())));
    const lines = readFileSync(messagesFile(folder), "utf8").split("\n");
    lines[7] = "garbage";
    writeFileSync(messagesFile(folder), lines.join("\n"));
    await expect(storeAt(folder).start()).rejects.toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      message: expect.stringContaining(folder)
    });
    expect(readFileSync(messagesFile(folder), "utf8")).toBe(lines.join("\n"));
  });

  it("refuses a path that cannot be a folder", async () => {
    const file = newFolder();
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, "");
    await expect(storeAt(file).start()).rejects.toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      message: expect.stringContaining(file)
    });
    await expect(storeAt(join(file, "below")).start()).rejects.toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      message: expect.stringContaining(file)
    });
  });

  it("is unavailable while the file cannot be written, and loses nothing it then confirmed", async () => {
    const folder = newFolder();
    const message = messageOf();
    await using(storeAt(folder), async store => {
      // Root may write anything, so the file becomes a folder.
      rmSync(messagesFile(folder));
      mkdirSync(join(messagesFile(folder), "x"), { recursive: true });
      await expect(store.messages.insert([message])).rejects.toMatchObject({
        type: "RELIABLE_UNAVAILABLE",
        retryable: true
      });
      await expect(store.messages.insert([message])).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
      rmSync(messagesFile(folder), { recursive: true });
      await store.messages.insert([message]);
    });
    await using(storeAt(folder), async store => expect(await store.messages.find([message._id])).toEqual([message]));
  });
});

describe("memory", () => {
  it("is shared within a namespace and gone with the last store", async () => {
    const namespace = uuidv7();
    const message = messageOf();
    await using(storeAt(undefined, namespace), async first => {
      await using(storeAt(undefined, namespace), second => second.messages.insert([message]));
      expect((await first.messages.handled([handledBy(message._id)])).consumed).toEqual([message._id]);
      await using(storeAt(undefined, uuidv7()), async other =>
        expect(await other.messages.find([message._id])).toEqual([])
      );
    });
    await using(storeAt(undefined, namespace), async store =>
      expect(await store.messages.find([message._id])).toEqual([])
    );
  });

  it("has no transactions", async () => {
    await using(storeAt(undefined, uuidv7()), async store => {
      await expect(store.messages.insertIn({}, messageOf({}))).rejects.toMatchObject({ type: "RELIABLE_BAD_SESSION" });
      await expect(store.inbox.transaction("stock", "m1", new Date(), async () => undefined)).rejects.toMatchObject({
        type: "RELIABLE_BAD_SESSION"
      });
    });
  });
});
