import type { IncomingMessage, ServerResponse } from "node:http";
import { gatewayError } from "./answers";
import { readAssets } from "./assets";
import { Dashboard, type DashboardNode } from "./handler";
import { unauthenticated } from "./http-error";
import { badOption, type DashboardOptions, type GatewayDashboardOptions } from "./options";
import type { Ask } from "./routes";

/** What moleculer-web hangs on a request, in 0.10 and 0.11. */
export interface GatewayRequest extends IncomingMessage {
  originalUrl?: string;
  /** Without a slash at its end, and without the query. */
  parsedUrl?: string;
  $ctx: { meta: { user?: unknown }; call: Ask };
}

/** The parts of moleculer-web's service that are used; the same in 0.10 and 0.11. */
export interface Gateway {
  settings: { path?: string };
  routes: { path: string }[];
  addRoute(options: object): { path: string; cors: unknown };
  resolveAlias(url: string, method: string): { alias: { route: object } } | false;
  [method: string]: unknown;
}

/** Each address of the page matches one of these; what it means is decided by ours alone. */
const ALIASES = ["/", "/:file", "/api/:name"];

/** Two, with what they are called by. */
const SAMPLES: [path: string, method: string][] = [
  ["", "GET"],
  ["/page.js", "GET"],
  ["/api/session", "GET"],
  ["/api/retry", "POST"]
];

/** Adds the page's route to a gateway that has been created. Throws RELIABLE_BAD_OPTION. */
export function addDashboard(
  gateway: Gateway,
  given: GatewayDashboardOptions,
  options: DashboardOptions,
  node: DashboardNode
): Dashboard {
  if (typeof gateway.addRoute !== "function")
    throw badOption(
      "mixins",
      "ReliableDashboard() is for a service with the mixin of moleculer-web: mixins: [ApiGateway, ReliableDashboard(…)]."
    );
  for (const option of ["authentication", "authorization"] as const) checkMethod(gateway, option, given[option]);
  const { settings } = gateway;
  const prefix = settings.path && settings.path !== "/" ? settings.path.replace(/^\/*|\/*$/g, "") : "";
  const mount = `${prefix && `/${prefix}`}${options.path}`;
  // A route of the same path would be replaced without a word.
  if (gateway.routes.some(({ path }) => bare(path) === mount.toLowerCase()))
    throw badOption(
      "path",
      `The gateway has a route '${mount || "/"}' already; give ReliableDashboard() another 'path'.`
    );
  const dashboard = new Dashboard(options, node, readAssets());
  const needsUser = Boolean(given.authentication) && !given.authorization;
  const handler = (req: GatewayRequest, res: ServerResponse) => void answer(dashboard, mount, needsUser, req, res);
  const route = gateway.addRoute({
    logging: false,
    ...given.routeOptions,
    // With the slash it takes no request that begins with the same letters only.
    path: `${options.path}/`,
    ...(given.authentication && { authentication: given.authentication }),
    ...(given.authorization && { authorization: given.authorization }),
    // Ours reads the body, once it is known who asks.
    bodyParsers: false,
    mappingPolicy: "restrict",
    mergeParams: false,
    aliases: Object.fromEntries(ALIASES.map(alias => [alias, handler])),
    onError: (req: IncomingMessage, res: ServerResponse, error: unknown) =>
      dashboard.fail(req, res, gatewayError(error))
  });
  // The gateway's own setting cannot be switched off by an option of the route.
  route.cors = null;
  for (const [path, method] of SAMPLES) {
    const found = gateway.resolveAlias(`${mount}${path}` || "/", method);
    if (!found || found.alias.route !== route)
      throw badOption(
        "path",
        `Another alias of the gateway takes '${method} ${mount}${path}'; give ReliableDashboard() another 'path'.`
      );
  }
  return dashboard;
}

const bare = (path: string) => path.replace(/\/+$/, "").toLowerCase();

/** Moleculer-web only warns of a method that is not there, and leaves the route open. */
function checkMethod(
  gateway: Gateway,
  option: "authentication" | "authorization",
  said: boolean | string | undefined
): void {
  if (!said) return;
  const name = said === true ? { authentication: "authenticate", authorization: "authorize" }[option] : said;
  if (typeof gateway[name] === "function") return;
  throw badOption(
    option,
    `The option '${option}' in ReliableDashboard() names the method '${name}', which the gateway's service does not have.`
  );
}

async function answer(
  dashboard: Dashboard,
  mount: string,
  needsUser: boolean,
  req: GatewayRequest,
  res: ServerResponse
): Promise<void> {
  const { user } = req.$ctx.meta;
  // Moleculer-web goes on where its method has found nobody.
  if (needsUser && !user) return dashboard.fail(req, res, unauthenticated());
  const [asked, ...query] = (req.originalUrl ?? "/").split("?") as [string, ...string[]];
  const below = (req.parsedUrl ?? "").slice(mount.length);
  const path = below === "" && asked.endsWith("/") ? "/" : below;
  const ask: Ask = (action, params, call) => req.$ctx.call(action, params, call);
  await dashboard.answer({ req, res, path, query: query.join("?"), user, ask });
}
