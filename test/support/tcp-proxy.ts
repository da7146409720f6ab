import { connect, createServer, type Server, type Socket } from "node:net";

/** A TCP proxy in front of a real server, which does to connections what networks do. */
export interface TcpProxy {
  readonly port: number;
  /** Accepted since the start. */
  readonly accepted: number;
  /** Open at present. */
  readonly open: number;
  /** Resets all connections (RST). */
  reset(): void;
  /**
   * Passes nothing on in either direction, and says nothing about it; new connections are accepted into the same hole.
   */
  hold(): void;
  /** Ends `hold`. What was sent meanwhile is passed on. */
  release(): void;
  /** What is sent from now on comes this much later; 0 ends it. */
  delay(ms: number): void;
  /** The next chunk of each connection comes through by half, then the connection is reset: a frame without its end. */
  cut(): void;
  /** The server's ends are gone, and the clients are not told: what they send from now on is lost. */
  halfOpen(): void;
  /** Resets all and refuses new ones. */
  down(): Promise<void>;
  /** Answers what clients send with this text in it by these bytes, as if the server did, and loses the connection to it. */
  answer(text: string, bytes: Buffer): void;
  /** What clients send with this text in it does not reach the server, and nothing that comes after it on that connection. */
  swallow(text: string): void;
  /** What the server sends with this text in it has the other one there, of the same length. */
  replace(text: string, by: string): void;
  up(): Promise<void>;
  close(): Promise<void>;
}

export async function tcpProxy(target: { host: string; port: number }): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  const upstreams = new Set<Socket>();
  const ends = new Map<Socket, Socket>();
  const cutting = new Set<Socket>();
  let holding = false;
  let delayMs = 0;
  let answering: { text: string; bytes: Buffer } | undefined;
  let swallowed: string | undefined;
  let replaced: [text: string, by: string] | undefined;
  let accepted = 0;
  let port = 0;
  let server: Server | undefined;

  const accept = (client: Socket) => {
    accepted++;
    const upstream = connect(target);
    upstreams.add(upstream);
    upstream.on("close", () => upstreams.delete(upstream));
    for (const [from, to] of [
      [client, upstream],
      [upstream, client]
    ]) {
      sockets.add(from);
      ends.set(from, to);
      from.setNoDelay(true);
      from.on("data", chunk => {
        if (cutting.has(from)) {
          to.write(chunk.subarray(0, Math.ceil(chunk.length / 2)), () => {
            from.resetAndDestroy();
            return to.resetAndDestroy();
          });
          from.pause();
        } else if (from === client && answering && chunk.includes(answering.text)) {
          ends.delete(upstream);
          upstream.destroy();
          client.removeAllListeners("data").resume();
          client.write(answering.bytes);
        } else if (from === client && swallowed !== undefined && chunk.includes(swallowed)) {
          client.removeAllListeners("data").resume();
        } else if (delayMs) setTimeout(() => to.writable && to.write(chunk), delayMs);
        else if (replaced && from === upstream && chunk.includes(replaced[0]))
          to.write(Buffer.from(chunk.toString("latin1").replace(...replaced), "latin1"));
        else to.write(chunk);
      });
      from.on("error", () => undefined);
      from.on("close", () => {
        sockets.delete(from);
        cutting.delete(from);
        // Half open: the other end is not told.
        if (ends.get(from) === to) to.destroy();
        ends.delete(from);
      });
      if (holding) from.pause();
    }
  };
  const listen = () =>
    new Promise<void>((resolve, reject) => {
      const fresh = (server = createServer(accept));
      fresh.once("error", reject);
      fresh.listen(port, "127.0.0.1", () => {
        port = (fresh.address() as { port: number }).port;
        resolve();
      });
    });
  const reset = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const down = () =>
    new Promise<void>(resolve => {
      const old = server;
      server = undefined;
      if (!old) return resolve();
      old.close(() => resolve());
      reset();
    });

  await listen();
  return {
    get port() {
      return port;
    },
    get accepted() {
      return accepted;
    },
    get open() {
      return sockets.size / 2;
    },
    reset,
    hold() {
      holding = true;
      for (const socket of sockets) socket.pause();
    },
    release() {
      holding = false;
      for (const socket of sockets) socket.resume();
    },
    delay(ms) {
      delayMs = ms;
    },
    cut() {
      for (const socket of sockets) cutting.add(socket);
    },
    halfOpen() {
      for (const server of upstreams) {
        const client = ends.get(server);
        ends.delete(server);
        server.destroy();
        client?.removeAllListeners("data").resume();
      }
    },
    answer(text, bytes) {
      answering = { text, bytes };
    },
    swallow(text) {
      swallowed = text;
    },
    replace(...texts) {
      replaced = texts;
    },
    down,
    up: listen,
    close: down
  };
}
