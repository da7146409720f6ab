import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import type { Asset } from "../../src/dashboard/assets";
import { Dashboard } from "../../src/dashboard/handler";
import { type OwnPortDashboardOptions, ownPortOptions } from "../../src/dashboard/options";
import type { CallOptions } from "../../src/platform/call";
import { recorder } from "./embedded";

const asset = (type: string, text: string): Asset => ({
  type,
  body: Buffer.from(text),
  gzipped: Buffer.from(`gzipped ${text}`),
  etag: `W/"${text}"`
});

export const ASSETS: ReadonlyMap<string, Asset> = new Map([
  ["index.html", asset("text/html; charset=utf-8", "the page")],
  ["page.js", asset("text/javascript; charset=utf-8", "the script")]
]);

export interface Called {
  action: string;
  params: Record<string, unknown>;
  options: CallOptions;
}

export interface Served {
  port: number;
  /** What reached the actions. */
  calls: Called[];
  lines: string[];
  /** Next requests are of this user. */
  as(user: unknown): void;
}

/** The page's server without a Moleculer broker: `actions` answers the calls, by their name. */
export async function served(
  options: Omit<OwnPortDashboardOptions, "users" | "authentication">,
  actions: Record<string, (params: Record<string, unknown>) => unknown> = {}
): Promise<Served> {
  const { lines, logger } = recorder();
  const calls: Called[] = [];
  const resolved = ownPortOptions({ ...options, ...(options.access !== "anonymous" && { authentication: () => "" }) });
  const dashboard = new Dashboard(resolved, { namespace: "shop", nodeID: "node-1", logger }, ASSETS);
  let user: unknown = { username: "emma" };
  const server = createServer((req, res) => {
    const [path, query = ""] = (req.url ?? "").split("?") as [string, string?];
    const ask = async (action: string, params: object, options: CallOptions) => {
      calls.push({ action, params: params as Record<string, unknown>, options });
      return actions[action.replace(/^reliable\./, "")]?.(params as Record<string, unknown>) ?? {};
    };
    void dashboard.answer({ req, res, path: path.slice(resolved.path.length), query, user, ask });
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    dashboard.stop();
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, calls, lines, as: next => (user = next) };
}
