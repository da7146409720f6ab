import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { type Context, type Service, ServiceBroker, type ServiceSchema } from "moleculer";
import { uuidv7 } from "uuidv7";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { ReliableEmit } from "../../../src";
import { systemClock } from "../../../src/platform/clock";
import { folders, lockFile, messagesFile, recorder, storeAt, using } from "../../support/embedded";
import { messageOf } from "../../support/messages";

/** The disk under the store: its room, what has reached the platters, and what fails. */
const disk = vi.hoisted(() => ({
  room: Number.POSITIVE_INFINITY,
  synced: new Map<string, number>(),
  fails: {} as Record<string, string | undefined>,
  frozen: undefined as Promise<void> | undefined,
  /** Calls that have failed. */
  failed: [] as string[],
  beforeRename: undefined as (() => void) | undefined
}));

vi.mock("node:fs/promises", async original => {
  const real = await original<typeof import("node:fs/promises")>();
  const failure = (code: string) => Object.assign(new Error(`${code}: as the test wants it`), { code });
  const mayFail = (call: string) => {
    const code = disk.fails[call];
    if (!code) return;
    disk.failed.push(call);
    throw failure(code);
  };
  /** By the name of the copy. */
  const renamed = new Map<string, string>();
  const watched = (handle: FileHandle, path: string): FileHandle => {
    const { appendFile, datasync, sync, close } = handle;
    let written = 0;
    const reached = () => disk.synced.set(renamed.get(path) ?? path, written);
    return Object.assign(handle, {
      async appendFile(bytes: Buffer) {
        mayFail("append");
        const part = Buffer.from(bytes).subarray(0, Math.min(bytes.length, disk.room));
        disk.room -= part.length;
        await appendFile.call(handle, part);
        written = (await handle.stat()).size;
        if (part.length < bytes.length) throw failure("ENOSPC");
      },
      async datasync() {
        mayFail("datasync");
        await disk.frozen;
        await datasync.call(handle);
        reached();
      },
      async sync() {
        mayFail("sync");
        await sync.call(handle);
        reached();
      },
      async close() {
        await close.call(handle);
        mayFail("close");
      }
    });
  };
  return {
    ...real,
    async open(path: string, ...more: [string, number]) {
      return watched(await real.open(path, ...more), path);
    },
    async rename(from: string, to: string) {
      mayFail("rename");
      disk.beforeRename?.();
      await real.rename(from, to);
      renamed.set(from, to);
      disk.synced.set(to, disk.synced.get(from) ?? 0);
    },
    async rm(path: string, options: { force: true }) {
      disk.room += await real.stat(path).then(
        ({ size }) => size,
        () => 0
      );
      await real.rm(path, options);
    },
    async statfs() {
      return { blocks: 1, bsize: 1, bavail: Math.min(disk.room, 2 ** 50) };
    },
    async utimes(...args: Parameters<typeof real.utimes>) {
      mayFail("utimes");
      await real.utimes(...args);
    }
  };
});

const newFolder = folders();
const copies = (folder: string) => readdirSync(folder).filter(name => name.endsWith("~"));

beforeEach(() => {
  disk.room = Number.POSITIVE_INFINITY;
  disk.fails = {};
  disk.failed = [];
  disk.beforeRename = undefined;
});

describe("full disk", () => {
  it("is told in the error, once in the log and to listeners; what fits is taken again; nothing refused is there", async () => {
    const folder = newFolder();
    const { logger, lines } = recorder();
    const kept = [messageOf(), messageOf(), messageOf()];
    const refused = [messageOf(), messageOf()];
    const heard: Error[] = [];
    await using(storeAt(folder, "", { logger }), async store => {
      let ready = 0;
      store.onUnavailable(error => heard.push(error));
      store.onReady(() => ready++);
      await store.messages.insert([kept[0]]);
      disk.room = 100;
      for (const message of refused) {
        await expect(store.messages.insert([message])).rejects.toMatchObject({
          type: "RELIABLE_UNAVAILABLE",
          retryable: true,
          message: expect.stringMatching(/reliable\.messages\.db.*ENOSPC/)
        });
        disk.room = 50;
      }
      await expect(store.probe()).rejects.toThrow(/ENOSPC/);
      // Neither in memory nor in the file, and reads go on.
      expect(await store.messages.find([kept[0]._id, ...refused.map(({ _id }) => _id)])).toHaveLength(1);
      expect(heard).toEqual([expect.objectContaining({ type: "RELIABLE_UNAVAILABLE" })]);
      expect(lines).toEqual([expect.stringMatching(/^error: .*ENOSPC/)]);
      // Another file's small write may fit into what is left; the one that failed decides.
      disk.room = 300;
      await expect(store.probe()).rejects.toThrow(/ENOSPC/);
      disk.room = 1e6;
      await store.probe();
      expect(ready).toBe(1);
      expect(lines.at(-1)).toMatch(/^info: .*again/);
      await store.messages.insert([kept[1]]);
    });
    expect(existsSync(lockFile(folder))).toBe(false);
    await using(storeAt(folder), async store => {
      await store.messages.insert([kept[2]]);
      expect(await store.messages.find([...kept, ...refused].map(({ _id }) => _id))).toHaveLength(3);
    });
  });

  it("takes back changes and deletions that could not be written, and the rest of their group", async () => {
    const folder = newFolder();
    const messages = [messageOf(), messageOf()];
    const ids = messages.map(({ _id }) => _id);
    await using(storeAt(folder), async store => {
      await store.messages.insert(messages);
      disk.room = 10;
      const added = messageOf();
      const results = await Promise.allSettled([
        store.messages.published(ids.map(id => ({ id, dueAt: new Date(5), attempts: {} }) as never)),
        store.messages.postponed(ids, new Date(7)),
        store.messages.insert([added]),
        store.messages.find([...ids, added._id])
      ]);
      expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected", "fulfilled"]);
      expect((results[3] as PromiseFulfilledResult<unknown[]>).value).toHaveLength(2);
      expect(new Set(await store.messages.find(ids))).toEqual(new Set(messages));
      disk.room = 1e6;
      expect(await store.messages.postponed(ids, new Date(7))).toBe(2);
    });
    await using(storeAt(folder), async store =>
      expect((await store.messages.find(ids)).map(({ dueAt }) => dueAt)).toEqual([new Date(7), new Date(7)])
    );
  });

  it("that has no room for a copy ends no write: the half copy goes, it is told, and compaction comes later", async () => {
    const folder = newFolder();
    const { logger, lines } = recorder();
    let monotonic = 0;
    const clock = { ...systemClock, monotonic: () => monotonic };
    const messages = Array.from({ length: 200 }, () => messageOf({ body: Buffer.alloc(12_000) }));
    const ids = messages.map(({ _id }) => _id);
    await using(storeAt(folder, "", { logger, clock }), async store => {
      const heard: Error[] = [];
      store.onUnavailable(error => heard.push(error));
      await store.messages.insert(messages);
      const write = (n: number) => store.messages.postponed(ids, new Date(n));
      for (let n = 0; n < 24; n++) await write(n);
      // For the copy's first part and its reserve, not for the next.
      disk.room = 7e6;
      for (let n = 24; n < 26; n++) expect(await write(n)).toBe(200);
      expect(store.degraded).toEqual([expect.stringMatching(/cannot compact .*ENOSPC/)]);
      expect(heard).toHaveLength(1);
      expect(lines.filter(line => line.startsWith("error"))).toHaveLength(1);
      expect(copies(folder)).toEqual([]);
      disk.room = 1e9;
      monotonic += 31_000;
      const grown = statSync(messagesFile(folder)).size;
      await write(99);
      expect(store.degraded).toEqual([]);
      expect(statSync(messagesFile(folder)).size).toBeLessThan(grown / 5);
    });
    await using(storeAt(folder), async store => expect(await store.messages.find(ids)).toHaveLength(200));
  });

  it("opens with what is there, a half line included, and is told", async () => {
    const folder = newFolder();
    const message = messageOf();
    await using(storeAt(folder), store => store.messages.insert([message]));
    writeFileSync(messagesFile(folder), `${readFileSync(messagesFile(folder), "utf8")}{"_id":"ha`);
    disk.room = 1000;
    await using(storeAt(folder), async store => {
      expect(store.degraded).not.toEqual([]);
      expect(await store.messages.find([message._id])).toEqual([message]);
      disk.room = 1e6;
      await store.messages.insert([messageOf()]);
    });
    expect(
      readFileSync(messagesFile(folder), "utf8")
        .trim()
        .split("\n")
        .map(line => JSON.parse(line))
    ).toHaveLength(2);
  });
});

describe("half copies", () => {
  it("of any earlier process are deleted at open", async () => {
    const folder = newFolder();
    mkdirSync(folder, { recursive: true });
    for (const name of [`${messagesFile(folder)}~`, `${messagesFile(folder)}.0190~`]) writeFileSync(name, '{"_id":"h');
    await using(storeAt(folder), async () => expect(copies(folder)).toEqual([]));
  });

  it("of a rename that fails are deleted, and the file is as it was", async () => {
    const folder = newFolder();
    const message = messageOf();
    await using(storeAt(folder), store => store.messages.insert([message]));
    disk.fails = { rename: "EIO" };
    await expect(storeAt(folder).start()).rejects.toMatchObject({ type: "RELIABLE_BAD_OPTION" });
    expect([copies(folder), existsSync(lockFile(folder))]).toEqual([[], false]);
    disk.fails = {};
    await using(storeAt(folder), async store => expect(await store.messages.find([message._id])).toHaveLength(1));
  });
});

describe("power loss", () => {
  it("takes nothing that was promised: all of it was on the disk", async () => {
    const folder = newFolder();
    const after = newFolder();
    const promised: string[] = [];
    await using(storeAt(folder), async store => {
      const emits = Array.from({ length: 40 }, async (_, i) => {
        for (let n = 0; n < 3; n++) {
          const message = messageOf();
          await store.messages.insert([message]);
          promised.push(message._id);
          if (i === 7 && n === 1) {
            // What the disk has now; the rest of the file is zeros.
            const bytes = readFileSync(messagesFile(folder));
            bytes.fill(0, disk.synced.get(messagesFile(folder)) ?? 0);
            mkdirSync(after, { recursive: true });
            writeFileSync(messagesFile(after), bytes);
            writeFileSync(`${messagesFile(after)}.promised`, promised.join("\n"));
          }
        }
      });
      await Promise.all(emits);
    });
    const ids = readFileSync(`${messagesFile(after)}.promised`, "utf8").split("\n");
    expect(ids.length).toBeGreaterThan(20);
    await using(storeAt(after), async store => expect(await store.messages.find(ids)).toHaveLength(ids.length));
  });

  it("takes no folder that was made: each above it was synced", async () => {
    const folder = newFolder();
    await using(storeAt(folder), async () => {
      for (const made of [folder, dirname(folder), dirname(dirname(folder)), dirname(dirname(dirname(folder)))])
        expect([...disk.synced.keys()]).toContain(made);
    });
  });

  it("a write that does not reach the disk is rejected and taken back", async () => {
    const folder = newFolder();
    const message = messageOf();
    await using(storeAt(folder), async store => {
      disk.fails = { datasync: "EIO" };
      await expect(store.messages.insert([message])).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
      expect(readFileSync(messagesFile(folder), "utf8")).toBe("");
      disk.fails = {};
      expect((await store.messages.insert([message]))[0]).toMatchObject({ stored: true });
    });
  });
});

describe("close", () => {
  it("releases the lock whatever fails, and says what did", async () => {
    const folder = newFolder();
    const { logger, lines } = recorder();
    const store = storeAt(folder, "", { logger });
    await store.start();
    disk.fails = { close: "EIO" };
    await store.close();
    expect(existsSync(lockFile(folder))).toBe(false);
    expect(lines.filter(line => line.startsWith("error: ") && line.includes("EIO")).length).toBeGreaterThan(0);
  });

  it("releases the lock when the disk is full and writes are under way", async () => {
    const folder = newFolder();
    const store = storeAt(folder);
    await store.start();
    disk.room = 0;
    const insert = store.messages.insert([messageOf()]).catch(() => undefined);
    await store.close();
    await insert;
    expect(existsSync(lockFile(folder))).toBe(false);
  });
});

it("a disk that does not answer keeps neither the stop nor the lock; what is still being written is not confirmed", async () => {
  const folder = newFolder();
  const store = storeAt(folder);
  await store.start();
  const message = messageOf();
  let thaw: () => void = () => undefined;
  disk.frozen = new Promise(resolve => (thaw = resolve));
  const insert = expect(store.messages.insert([message])).rejects.toMatchObject({ type: "RELIABLE_LOCK_LOST" });
  await store.close(50);
  expect(existsSync(lockFile(folder))).toBe(false);
  disk.frozen = undefined;
  await using(storeAt(folder), async () => {
    thaw();
    await insert;
  });
});

it("a node tells a full disk in $reliable.error and in health, and goes on when there is room", async () => {
  const broker = new ServiceBroker({ namespace: uuidv7(), logger: false });
  const heard: { module: string; error: Error }[] = [];
  broker.createService({
    name: "watch",
    events: { "$reliable.error": (ctx: Context<{ module: string; error: Error }>) => void heard.push(ctx.params) }
  } as unknown as ServiceSchema);
  const mixins = [ReliableEmit({ path: newFolder(), emitTimeoutMs: 400 })];
  const orders = broker.createService({ name: "orders", mixins } as unknown as ServiceSchema) as Service & {
    reliableEmit(event: string, payload: object): Promise<unknown>;
  };
  await broker.start();
  try {
    await orders.reliableEmit("order.created", {});
    disk.room = 200;
    await expect(orders.reliableEmit("order.created", {})).rejects.toMatchObject({
      type: "RELIABLE_OUTCOME_UNKNOWN",
      message: expect.stringContaining("ENOSPC")
    });
    expect(await broker.call("reliable.health", {})).toMatchObject({
      ok: false,
      failing: [expect.stringMatching(/^store: takes no writes \(embedded\): .*ENOSPC/)]
    });
    expect(heard.filter(({ module }) => module === "store")).toEqual([
      expect.objectContaining({ error: expect.objectContaining({ type: "RELIABLE_UNAVAILABLE" }) })
    ]);
    disk.room = 1e9;
    await orders.reliableEmit("order.created", {});
    expect(await broker.call("reliable.health", {})).toMatchObject({ ok: true, failing: [], degraded: [] });
    // Room for writes, and none for a copy.
    await broker.stop();
    disk.room = 500_000;
    await broker.start();
    expect(await broker.call("reliable.health", {})).toMatchObject({
      ok: true,
      degraded: expect.arrayContaining([expect.stringMatching(/^store: .*cannot compact .*ENOSPC/)])
    });
  } finally {
    await broker.stop();
  }
});

it("a failed touch of the lock is not the last one", async () => {
  const folder = newFolder();
  const touches: (() => void)[] = [];
  const every = (_: number, touch: () => void) => {
    touches.push(touch);
    return { stop: () => void touches.splice(touches.indexOf(touch), 1) };
  };
  await using(storeAt(folder, "", { clock: { ...systemClock, every } }), async () => {
    const before = statSync(lockFile(folder)).mtimeMs;
    disk.fails = { utimes: "EIO" };
    for (const touch of touches) touch();
    await vi.waitFor(() => expect(disk.failed).toContain("utimes"));
    // Its rejection is handled in the same turn.
    await new Promise(resolve => setImmediate(resolve));
    disk.fails = {};
    await vi.waitFor(() => {
      for (const touch of touches) touch();
      expect(statSync(lockFile(folder)).mtimeMs).toBeGreaterThan(before);
    });
  });
});

it("who is slower at a stale lock gives the quicker one's back", async () => {
  const folder = newFolder();
  mkdirSync(folder, { recursive: true });
  const owner = (token: string, pid: number) => JSON.stringify({ pid, thread: 0, host: hostname(), token });
  // No process has this pid.
  writeFileSync(lockFile(folder), owner("stale", 2 ** 22 + 1));
  const quicker = owner("quicker", process.ppid);
  disk.beforeRename = () => {
    writeFileSync(lockFile(folder), quicker);
    disk.beforeRename = undefined;
  };
  const sleep = async () => utimesSync(lockFile(folder), new Date(), new Date());
  const clock = Object.assign(Object.create(systemClock), systemClock, { sleep });
  await expect(storeAt(folder, "", { clock }).start()).rejects.toThrow(`in use by process ${process.ppid}`);
  expect(readFileSync(lockFile(folder), "utf8")).toBe(quicker);
});
