import { createServer, type IncomingHttpHeaders, request } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export interface HttpProxyOptions {
  /** The address of the page behind it. */
  target: string;
  /** Where the page is seen at the proxy, `/ops/tools/`: it is taken off, and the target's own path is put before. */
  prefix: string;
  /** The name that the target sees, as many proxies set it; the browser's, else. */
  host?: string;
  /** @default one that is free */
  port?: number;
}

/** A proxy as operators put before their pages, with a prefix of its own; closed at the end of the test. Its address. */
export async function httpProxy({ target, prefix, host, port: at = 0 }: HttpProxyOptions): Promise<string> {
  const { hostname, port, pathname } = new URL(target);
  const server = createServer((asked, answer) => {
    const { url = "/" } = asked;
    if (!url.startsWith(prefix) && `${url}/` !== prefix) return void answer.writeHead(404).end();
    const headers: IncomingHttpHeaders = { ...asked.headers, ...(host && { host }) };
    const path = `${pathname.replace(/\/$/, "")}${url.slice(prefix.length - 1)}`;
    const passed = request({ hostname, port, path, method: asked.method, headers }, given => {
      answer.writeHead(given.statusCode ?? 502, given.headers);
      given.pipe(answer);
    });
    passed.on("error", () => answer.destroy());
    asked.pipe(passed);
  });
  await new Promise<void>(resolve => server.listen(at, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}${prefix}`;
}
