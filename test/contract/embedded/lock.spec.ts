import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync
} from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { threadId } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../../src/platform/clock";
import { FileLock } from "../../../src/stores/embedded/file-lock";
import { processIdentity } from "../../../src/stores/embedded/process-identity";
import { startNode, type TestNode } from "../../support/child";
import { folders, lockFile, messagesFile, recorder, storeAt, using } from "../../support/embedded";
import type { EmbeddedNode } from "../../support/embedded-node";
import { messageOf, parkedOf, silent } from "../../support/messages";

const newFolder = folders();

function leave(folder: string, owner: object | string): void {
  mkdirSync(folder, { recursive: true });
  const text = typeof owner === "string" ? owner : JSON.stringify({ token: "x", host: hostname(), ...owner });
  writeFileSync(lockFile(folder), text);
}

/** The owner touches its lock while another waits for it. */
const touchedMeanwhile = (folder: string) => {
  const sleep = async () => utimesSync(lockFile(folder), new Date(), new Date());
  return Object.assign(Object.create(systemClock), systemClock, { sleep });
};
const makeOld = (folder: string) => utimesSync(lockFile(folder), 0, 0);
const isFree = (folder: string) => using(storeAt(folder), async store => expect(store.ready).toBe(true));
const isTaken = (folder: string, text: string) =>
  expect(storeAt(folder, "", { clock: touchedMeanwhile(folder) }).start()).rejects.toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    message: expect.stringContaining(text)
  });

async function holder(path: string): Promise<TestNode> {
  const env = { NODE: JSON.stringify({ path, load: 0 } satisfies EmbeddedNode) };
  const node = await startNode("test/support/embedded-node.ts", { env });
  await node.next("started");
  return node;
}

async function told(node: TestNode, name: string, answer: string): Promise<unknown> {
  node.tell(name);
  return node.next(answer);
}

describe("who has the folder", () => {
  it("a living process keeps it, and a dead one does not", async () => {
    const folder = newFolder();
    const child = spawn(process.execPath, ["-e", "process.stdin.resume()"]);
    try {
      leave(folder, { pid: child.pid });
      await isTaken(folder, `process ${child.pid}`);
    } finally {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    await isFree(folder);
  });

  it("a process that is stopped keeps it for as long as it lives, untouched or not", async () => {
    const folder = newFolder();
    const node = await holder(folder);
    await node.kill("SIGSTOP");
    makeOld(folder);
    await isTaken(folder, `process ${node.pid}`);
    await node.kill("SIGCONT");
    expect(await told(node, "emit", "emitted")).toBe("none");
    await node.kill("SIGSTOP");
    makeOld(folder);
    await node.kill("SIGKILL");
    await isFree(folder);
  });

  it.each([
    ["this pid in an earlier life of the container", { pid: process.pid, thread: threadId }],
    ["torn while it was written", '{"pid":']
  ])("takes over a lock that is nobody's: %s", async (_, owner) => {
    const folder = newFolder();
    leave(folder, owner);
    await isFree(folder);
  });

  it("a pid that is another process's by now does not hold it", async () => {
    const folder = newFolder();
    const known = await processIdentity();
    leave(folder, { pid: process.ppid, thread: 0, process: { ...known, startedAt: "1" } });
    await isFree(folder);
  });

  it("this pid in another container of this machine and name holds it while it touches it", async () => {
    const folder = newFolder();
    leave(folder, { pid: process.pid, thread: threadId, process: { system: "boot pid:[1]", startedAt: "1" } });
    await isTaken(folder, `process ${process.pid}`);
    makeOld(folder);
    await isFree(folder);
  });

  it("another path to the same folder is the same folder", async () => {
    const folder = newFolder();
    await using(storeAt(folder), async () => {
      const link = `${folder}-link`;
      symlinkSync(folder, link);
      await isTaken(link, `process ${process.pid}`);
    });
  });

  it("waits for an owner that has created the file and is still writing, but not for one that died in it", async () => {
    const folder = newFolder();
    leave(folder, "");
    // Its owner writes while we wait.
    const sleep = async () => leave(folder, { pid: process.ppid, thread: 0 });
    // Each time it is looked at it was touched again.
    const clock = Object.assign(Object.create(systemClock), systemClock, { sleep });
    await expect(storeAt(folder, "", { clock }).start()).rejects.toThrow(`in use by process ${process.ppid}`);
    writeFileSync(lockFile(folder), "");
    makeOld(folder);
    await isFree(folder);
  });

  it("waits for a lock whose owner cannot be looked at to be touched or old, and says so", async () => {
    const folder = newFolder();
    leave(folder, { pid: process.pid, process: { system: "the boot before", startedAt: "1" } });
    const { logger, lines } = recorder();
    let waits = 0;
    const sleep = async () => {
      if (++waits === 3) makeOld(folder);
    };
    const clock = Object.assign(Object.create(systemClock), systemClock, { sleep });
    await using(storeAt(folder, "", { logger, clock }), async store => expect(store.ready).toBe(true));
    expect(waits).toBe(3);
    expect(lines).toEqual([expect.stringMatching(/^warn: .*The start waits/)]);
  });

  it("believes another machine's lock while it is touched", async () => {
    const folder = newFolder();
    leave(folder, { pid: 1, host: "elsewhere" });
    await isTaken(folder, "elsewhere");
    makeOld(folder);
    await isFree(folder);
  });

  it("of many that find the same stale lock at once, one gets it and keeps it", async () => {
    for (let round = 0; round < 20; round++) {
      const folder = newFolder();
      leave(folder, { pid: 1, host: "elsewhere" });
      makeOld(folder);
      const parts = { clock: systemClock, logger: silent, onLost: () => undefined };
      const tries = Array.from({ length: 8 }, () => FileLock.acquire(lockFile(folder), parts).catch(() => undefined));
      const got = (await Promise.all(tries)).filter(lock => lock !== undefined);
      const kept = await Promise.all(
        got.map(lock =>
          lock.check().then(
            () => 1,
            () => 0
          )
        )
      );
      expect(kept.filter(Boolean)).toHaveLength(1);
      for (const lock of got) await lock.release();
    }
  });
});

describe("a process that was paused for too long", () => {
  it("finds its folder taken, refuses every write, says so, and disturbs the new owner in nothing", async () => {
    const folder = newFolder();
    const node = await holder(folder);
    expect(await told(node, "emit", "emitted")).toBe("none");
    await node.kill("SIGSTOP");
    // To another machine it is as good as dead.
    const lock = JSON.parse(readFileSync(lockFile(folder), "utf8")) as { process: object };
    leave(folder, { ...lock, host: "elsewhere", process: { system: "another boot", startedAt: "1" } });
    makeOld(folder);
    const message = messageOf();
    await using(storeAt(folder), async store => {
      await store.messages.insert([message]);
      const files = () => readdirSync(folder).map(name => [name, readFileSync(join(folder, name), "utf8")]);
      const before = files();
      await node.kill("SIGCONT");
      expect(await told(node, "write", "wrote")).toBe("RELIABLE_LOCK_LOST");
      expect(await told(node, "emit", "emitted")).toBe("RELIABLE_STORE_REFUSED");
      expect(await told(node, "write", "wrote")).toBe("RELIABLE_LOCK_LOST");
      expect(await told(node, "health", "health")).toMatchObject({
        ok: false,
        failing: expect.arrayContaining([expect.stringMatching(/takes no writes.*lost its lock/)])
      });
      expect(node.output).toContain(`process ${process.pid}`);
      expect(files()).toEqual(before);
      await node.kill("SIGTERM");
      await store.messages.insert([messageOf()]);
      expect(statSync(lockFile(folder)).isFile()).toBe(true);
    });
    await using(storeAt(folder), async store => expect(await store.messages.find([message._id])).toHaveLength(1));
  });

  it("confirms nothing that the new owner does not read: a write in which it lost the folder is rejected", async () => {
    const folder = newFolder();
    const { logger, lines } = recorder();
    const store = storeAt(folder, "", { logger });
    const heard: Error[] = [];
    await store.start();
    store.onUnavailable(error => heard.push(error));
    const message = messageOf();
    const insert = store.messages.insert([message]);
    leave(folder, { pid: process.ppid, token: "another's" });
    await expect(insert).rejects.toMatchObject({ type: "RELIABLE_LOCK_LOST", retryable: false });
    for (const write of [store.messages.insert([messageOf()]), store.probe(), store.parked.add([parkedOf()])])
      await expect(write).rejects.toMatchObject({ type: "RELIABLE_LOCK_LOST" });
    expect(heard).toEqual([expect.objectContaining({ type: "RELIABLE_LOCK_LOST" })]);
    expect(lines).toEqual([expect.stringMatching(/^error: .*lost its lock/)]);
    await store.close();
    expect(readFileSync(lockFile(folder), "utf8")).toContain("another's");
  });

  it("does not notice only when it writes", async () => {
    const folder = newFolder();
    const touches: (() => void)[] = [];
    const every = (_: number, touch: () => void) => {
      touches.push(touch);
      return { stop: () => undefined };
    };
    const store = storeAt(folder, "", { clock: { ...systemClock, every } });
    await store.start();
    const lost = new Promise<Error>(resolve => store.onUnavailable(resolve));
    leave(folder, { pid: process.ppid, token: "another's" });
    makeOld(folder);
    for (const touch of touches) touch();
    expect(await lost).toMatchObject({ type: "RELIABLE_LOCK_LOST" });
    // What it touched would keep others out.
    expect(statSync(lockFile(folder)).mtimeMs).toBe(0);
    await store.close();
  });

  it("cannot write into the files of the new owner, whatever it still holds open", async () => {
    const folder = newFolder();
    const store = storeAt(folder);
    await store.start();
    const old = statSync(messagesFile(folder)).ino;
    rmSync(lockFile(folder));
    const next = await startNode("test/support/embedded-node.ts", {
      env: { NODE: JSON.stringify({ path: folder, load: 0 } satisfies EmbeddedNode) }
    });
    await next.next("started");
    expect(statSync(messagesFile(folder)).ino).not.toBe(old);
    await expect(store.messages.insert([messageOf()])).rejects.toMatchObject({ type: "RELIABLE_LOCK_LOST" });
    await store.close();
  });
});

describe("modes", () => {
  it("files are their user's alone, and so is a folder that is made", async () => {
    const folder = newFolder();
    mkdirSync(dirname(folder), { recursive: true });
    await using(storeAt(folder), store => store.messages.insert([messageOf()]));
    for (const name of readdirSync(folder)) chmodSync(join(folder, name), 0o644);
    writeFileSync(messagesFile(folder), `${readFileSync(messagesFile(folder), "utf8")}{"_id":"half`);
    await using(storeAt(folder), async () => {
      const modes = readdirSync(folder).map(name => [name, statSync(join(folder, name)).mode & 0o777]);
      expect(modes.filter(([, mode]) => mode !== 0o600)).toEqual([]);
      expect(modes.map(([name]) => name)).toEqual(
        expect.arrayContaining(["reliable.lock", "reliable.messages.db.torn"])
      );
    });
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    // A folder that was there is the user's: it may hold other things.
    chmodSync(folder, 0o755);
    await isFree(folder);
    expect(statSync(folder).mode & 0o777).toBe(0o755);
  });
});
