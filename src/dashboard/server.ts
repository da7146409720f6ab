import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { BlockList, isIP } from "node:net";
import type { Logger } from "../platform/logger";
import { Warnings } from "../platform/warnings";
import { userName } from "./access";
import { API_ERRORS } from "./api";
import { readAssets } from "./assets";
import { Dashboard } from "./handler";
import { HttpError } from "./http-error";
import { basicLogin, type Login, ownLogin } from "./login";
import { badOption, type DashboardOptions, type OwnPortDashboardOptions, ownPortOptions } from "./options";
import { checkLoopbackHost } from "./requests";
import type { Ask } from "./routes";

export interface ServerNode {
  namespace: string;
  nodeID: string;
  logger: Logger;
  /** Calls as this user; null = nobody has to log in. */
  askAs(user: { username: string } | null): Ask;
}

/** Nobody's browser needs longer; who does holds a connection. Looked at every `connectionsCheckingInterval`. */
const TIMEOUTS = {
  headersTimeout: 10_000,
  requestTimeout: 20_000,
  keepAliveTimeout: 10_000,
  connectionsCheckingInterval: 2000
};

/** Of a connection on which nothing moves: the longest act is answered within it. */
const IDLE_MS = 150_000;

const MAX_CONNECTIONS = 500;

/** An act that has begun is answered, if it ends soon. */
const STOP_MS = 5000;

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8);
LOOPBACK.addAddress("::1", "ipv6");

const isLoopback = (ip: string) =>
  ip.toLowerCase() === "localhost" || (isIP(ip) !== 0 && LOOPBACK.check(ip, isIP(ip) === 6 ? "ipv6" : "ipv4"));

/** The page on a port of its own. */
export class DashboardServer {
  readonly #given: OwnPortDashboardOptions;
  readonly #options: DashboardOptions;
  readonly #loopback: boolean;
  #server?: Server;
  #dashboard?: Dashboard;
  #warnings?: Warnings;

  /** Throws RELIABLE_BAD_OPTION. */
  constructor(given: OwnPortDashboardOptions) {
    this.#given = { ...given };
    this.#options = ownPortOptions(given);
    this.#loopback = isLoopback(given.ip ?? "127.0.0.1");
  }

  /** Returns the address of the page. Rejects with RELIABLE_BAD_OPTION if the port cannot be had. */
  async start(node: ServerNode): Promise<string> {
    const { port = 3400, ip = "127.0.0.1" } = this.#given;
    const dashboard = new Dashboard(this.#options, node, readAssets());
    this.#warnings = new Warnings(node.logger);
    const login = this.#login(this.#warnings);
    const server = createServer(TIMEOUTS, (req, res) => void this.#answer(dashboard, login, node, req, res));
    server.setTimeout(IDLE_MS);
    server.maxConnections = MAX_CONNECTIONS;
    await listening(server, port, ip);
    this.#server = server;
    this.#dashboard = dashboard;
    this.#warn(node.logger, ip);
    const address = server.address();
    const host = isIP(ip) === 6 ? `[${ip}]` : ip;
    return `http://${host}:${typeof address === "object" ? address?.port : port}${this.#options.path}/`;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.#dashboard?.stop();
    this.#warnings?.flush();
    if (!server) return;
    const closed = new Promise<void>(resolve => server.close(() => resolve()));
    server.closeIdleConnections();
    const late = setTimeout(() => server.closeAllConnections(), STOP_MS);
    await closed;
    clearTimeout(late);
  }

  #login(warnings: Warnings): Login | undefined {
    const { users, authentication } = this.#given;
    if (users) return basicLogin(users);
    return authentication && ownLogin(authentication, warnings);
  }

  #warn(logger: Logger, ip: string): void {
    if (this.#loopback) return;
    if (this.#options.access === "anonymous")
      logger.warn(`Reliable: whoever reaches ${ip} may do everything on the dashboard's page (access: "anonymous").`);
    else if (this.#given.users)
      logger.warn(
        `Reliable: the dashboard's passwords go over the network to ${ip} unencrypted, unless a proxy with TLS is before it.`
      );
  }

  async #answer(
    dashboard: Dashboard,
    login: Login | undefined,
    node: ServerNode,
    req: IncomingMessage,
    res: ServerResponse
  ): Promise<void> {
    try {
      if (this.#loopback) checkLoopbackHost(req, this.#options.origins);
      const { path, query } = this.#place(req);
      const user = await login?.(req);
      const name = userName(user);
      // No more of a user leaves this process than the name.
      const ask = node.askAs(name === null ? null : { username: name });
      await dashboard.answer({ req, res, path, query, user, ask });
    } catch (error) {
      dashboard.fail(req, res, error);
    }
  }

  /** Where below the mount. */
  #place({ url = "/" }: IncomingMessage): { path: string; query: string } {
    const [whole, ...rest] = url.split("?") as [string, ...string[]];
    const { path: mount } = this.#options;
    const path = whole.startsWith(mount) ? whole.slice(mount.length) : undefined;
    if (path === undefined || (path !== "" && !path.startsWith("/")))
      throw new HttpError(404, API_ERRORS.noPage, "There is nothing at this address.");
    return { path: path === "" && mount === "" ? "/" : path, query: rest.join("?") };
  }
}

function listening(server: Server, port: number, ip: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = ({ code, message }: NodeJS.ErrnoException) => {
      const why = code === "EADDRINUSE" ? "another process, or service, listens there" : message;
      const option = code === "EADDRINUSE" || code === "EACCES" ? "port" : "ip";
      reject(
        badOption(option, `The dashboard cannot listen on port ${port} of ${ip}: ${why} (the option '${option}').`)
      );
    };
    server.once("error", failed);
    server.listen(port, ip, () => {
      server.off("error", failed);
      // What happens to one connection is no matter of the others.
      server.on("error", () => undefined);
      resolve();
    });
  });
}
