import { connect, createServer, type Socket } from "node:net";
import type { Document } from "mongodb";
import {
  commandOf,
  encodeReply,
  type Frame,
  FrameReader,
  isCommand,
  isFirstHello,
  replyOf,
  withDocument,
  withoutRecords
} from "./mongo-wire";

export interface Command {
  /** `insert`, `find`, … */
  name: string;
  body: Document;
}

/** What is done to one command. */
export type Play =
  /** Answered at once; the server never hears of it. */
  | { reply: Document }
  /** The server does it, and its answer is altered, and given this much later. */
  | { change(reply: Document): Document; afterMs?: number }
  /** Records of an insert or update for which this answers are refused with it; the server does the others. */
  | { refuses(record: Document): Document | undefined }
  /** The connection is lost: before the server hears of it, or when it has done it. */
  | { close: "before" | "after" }
  /** The server hears of it this much later, also when the client has gone meanwhile. */
  | { delayMs: number };

export interface MongoProxyOptions {
  /** Address of the server behind it. */
  target: string;
  /** Asked for each command but `hello`. Undefined = passed on. */
  play?(command: Command): Play | undefined;
  /** Alters what the server says of itself; `me` is the proxy's own address. Default: a set of this one member. */
  hello?(reply: Document, me: string): Document;
}

/** A proxy that understands MongoDB's protocol and plays `failCommand`, which the test server does not have. */
export interface MongoProxy {
  readonly address: string;
  /** The set of one member that the proxy claims to be. */
  readonly url: string;
  /** Commands that were passed on late and are not answered yet. */
  readonly late: number;
  /** Resolves when no late command is left. */
  idle(): Promise<void>;
  close(): Promise<void>;
}

const HELLO = /^(hello|ismaster)$/i;

export function onlyMember(reply: Document, me: string): Document {
  return { ...reply, hosts: [me], primary: me, me };
}

export async function mongoProxy({ target: behind, play, hello = onlyMember }: MongoProxyOptions): Promise<MongoProxy> {
  const target = new URL(behind);
  const sockets = new Set<Socket>();
  const waiting: (() => void)[] = [];
  let late = 0;
  let me = "";

  const ended = () => {
    late--;
    if (!late) for (const resolve of waiting.splice(0)) resolve();
  };

  const accept = (client: Socket) => {
    const server = connect(Number(target.port), target.hostname);
    const asked = new Map<number, { name: string; play?: Play | undefined }>();
    let lateHere = 0;
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => undefined);
    }
    client.on("close", () => {
      sockets.delete(client);
      // A server goes on with what it has begun.
      if (!lateHere) server.destroy();
    });
    server.on("close", () => {
      sockets.delete(server);
      client.destroy();
      for (; lateHere > 0; lateHere--) ended();
    });

    const ask = (frame: Frame) => {
      if (isFirstHello(frame)) asked.set(frame.id, { name: "hello" });
      if (!isCommand(frame)) return void server.write(frame.bytes);
      const body = commandOf(frame);
      const [name = ""] = Object.keys(body);
      const played = HELLO.test(name) ? undefined : play?.({ name, body });
      if (played && "reply" in played) return void client.write(encodeReply(frame.id, played.reply));
      if (played && "close" in played && played.close === "before") return void client.destroy();
      if (played && "refuses" in played) {
        const refused = withoutRecords(frame, played.refuses);
        if (!refused) return void pass(frame, name);
        const { bytes, left, writeErrors } = refused;
        if (!bytes) return void client.write(encodeReply(frame.id, { ok: 1, n: 0, nModified: 0, writeErrors }));
        const numbered = (list: Document[] = []) => list.map(each => ({ ...each, index: left[each["index"]] }));
        const change = (reply: Document) => ({
          ...reply,
          ...(reply["upserted"] && { upserted: numbered(reply["upserted"]) }),
          writeErrors: [...numbered(reply["writeErrors"]), ...writeErrors]
        });
        asked.set(frame.id, { name, play: { change } });
        return void server.write(bytes);
      }
      asked.set(frame.id, { name, play: played });
      if (!(played && "delayMs" in played)) return void server.write(frame.bytes);
      late++;
      lateHere++;
      setTimeout(() => server.writable && server.write(frame.bytes), played.delayMs);
    };
    const pass = (frame: Frame, name: string) => {
      asked.set(frame.id, { name });
      server.write(frame.bytes);
    };
    const answer = (frame: Frame) => {
      const { name = "", play: played } = asked.get(frame.responseTo) ?? {};
      asked.delete(frame.responseTo);
      if (played && "delayMs" in played) {
        lateHere--;
        ended();
      }
      if (played && "close" in played) return void client.destroy();
      if (client.destroyed) return void (lateHere || server.destroy());
      if (HELLO.test(name)) return void client.write(withDocument(frame, hello(replyOf(frame), me)));
      if (!(played && "change" in played)) return void client.write(frame.bytes);
      const changed = withDocument(frame, played.change(replyOf(frame)));
      if (!played.afterMs) return void client.write(changed);
      setTimeout(() => client.writable && client.write(changed), played.afterMs);
    };
    for (const [socket, take] of [
      [client, ask],
      [server, answer]
    ] as const) {
      const reader = new FrameReader();
      socket.on("data", chunk => reader.push(chunk).forEach(take));
    }
  };

  const listener = createServer(accept);
  await new Promise<void>(resolve => listener.listen(0, "127.0.0.1", resolve));
  me = `127.0.0.1:${(listener.address() as { port: number }).port}`;
  return {
    address: me,
    url: `mongodb://${me}/?replicaSet=${target.searchParams.get("replicaSet") ?? "rs0"}`,
    get late() {
      return late;
    },
    idle: () => (late ? new Promise<void>(resolve => waiting.push(resolve)) : Promise.resolve()),
    close: () =>
      new Promise<void>(resolve => {
        listener.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      })
  };
}
