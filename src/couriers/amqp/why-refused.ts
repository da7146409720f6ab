import net from "node:net";
import tls from "node:tls";
import type { SocketOptions } from "amqplib";
import { TIMED_OUT, withTimeout } from "../../async/deadline";
import type { Clock } from "../../platform/clock";
import type { BrokerAddress } from "./addresses";

/** A broker that refuses answers at once. */
const TIMEOUT_MS = 5000;

/** Methods of AMQP's class `connection`, as class × 65536 + method. */
const METHOD = { start: 655370, tune: 655390, openOk: 655401, close: 655410 } as const;
const FRAME_END = 206;

/**
 * Why RabbitMQ does not let this user into the vhost, in its own words. amqplib does not pass them on, and they tell
 * what passes (a limit, a vhost that is starting) from what does not (no such vhost, no rights). So the handshake is
 * made once more, as far as the answer. undefined = it answers otherwise now, or not at all.
 */
export async function whyRefused(
  address: BrokerAddress,
  socket: SocketOptions | undefined,
  clock: Clock
): Promise<string | undefined> {
  const end = new AbortController();
  const answer = await withTimeout(
    handshake(address, socket, end.signal).catch(() => undefined),
    TIMEOUT_MS,
    clock
  );
  end.abort();
  return answer === TIMED_OUT ? undefined : answer;
}

function handshake(
  { url, login = ["guest", "guest"] }: BrokerAddress,
  options: SocketOptions | undefined,
  signal: AbortSignal
): Promise<string | undefined> {
  const { protocol, hostname, port, pathname } = new URL(url);
  const vhost = pathname.length > 1 ? decodeURIComponent(pathname.slice(1)) : "/";
  const host = hostname.replace(/^\[|\]$/g, "");
  const secure = protocol === "amqps:";
  const to = { ...(options as object), host, port: Number(port) || (secure ? 5671 : 5672) };
  return new Promise((resolve, reject) => {
    const ready = () => void socket.write(Buffer.from("AMQP\u0000\u0000\u0009\u0001", "latin1"));
    const socket = secure
      ? tls.connect({ ...(net.isIP(host) ? {} : { servername: host }), ...to }, ready)
      : net.connect(to, ready);
    const done = (text?: string) => {
      socket.destroy();
      resolve(text);
    };
    signal.addEventListener("abort", () => done());
    socket.on("error", reject);
    socket.on("close", () => resolve(undefined));
    let rest = Buffer.alloc(0);
    socket.on("data", chunk => {
      rest = Buffer.concat([rest, chunk]);
      // Type, channel, size; the payload; an end byte.
      while (rest.length >= 8 && rest.length >= rest.readUInt32BE(3) + 8) {
        const size = rest.readUInt32BE(3);
        const payload = rest.subarray(7, 7 + size);
        rest = rest.subarray(size + 8);
        switch (size >= 4 ? payload.readUInt32BE(0) : 0) {
          case METHOD.start:
            socket.write(
              method(
                10,
                11,
                Buffer.alloc(4),
                short("PLAIN"),
                long(`\u0000${login[0]}\u0000${login[1]}`),
                short("en_US")
              )
            );
            break;
          case METHOD.tune:
            // As offered.
            socket.write(method(10, 31, payload.subarray(4, 12)));
            socket.write(method(10, 40, short(vhost), Buffer.alloc(2)));
            break;
          case METHOD.close:
            return done(payload.subarray(7, 7 + (payload[6] ?? 0)).toString());
          case METHOD.openOk:
            return done();
        }
      }
    });
  });
}

function method(classId: number, methodId: number, ...fields: Buffer[]): Buffer {
  const payload = Buffer.concat([Buffer.from([0, classId, 0, methodId]), ...fields]);
  const head = Buffer.alloc(7);
  head[0] = 1;
  head.writeUInt32BE(payload.length, 3);
  return Buffer.concat([head, payload, Buffer.from([FRAME_END])]);
}

function short(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

function long(text: string): Buffer {
  const bytes = Buffer.from(text);
  const size = Buffer.alloc(4);
  size.writeUInt32BE(bytes.length);
  return Buffer.concat([size, bytes]);
}
