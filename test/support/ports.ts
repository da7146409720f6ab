import { createServer } from "node:net";

/**
 * By default so low that the port of RabbitMQ's distribution, 20000 above, is below those that the kernel gives to
 * clients (from 32768 on): a broker whose distribution port is taken by somebody's connection ends without a word.
 */
export async function freePort(from = 6000, to = 12_700): Promise<number> {
  for (;;) {
    const port = from + Math.floor(Math.random() * (to - from));
    const free = await new Promise<boolean>(resolve => {
      const server = createServer().once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}
