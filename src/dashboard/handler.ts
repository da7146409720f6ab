import type { IncomingMessage, ServerResponse } from "node:http";
import { sanitizeError } from "../errors";
import { type Logger, printableLogger } from "../platform/logger";
import { VERSION } from "../platform/process-shared";
import { Warnings } from "../platform/warnings";
import { type AccessParts, checkAct, type Rights, rightsOf, userName } from "./access";
import { sendAsset, sendBare, sendError, sendJson } from "./answers";
import { API_ERRORS, type Session } from "./api";
import type { Asset } from "./assets";
import { HttpError } from "./http-error";
import type { DashboardOptions } from "./options";
import type { PayloadParts } from "./payloads";
import { bodyOf, checkActor, checkReader, paramsOf } from "./requests";
import { ACT_ROUTES, type Ask, READ_ROUTES } from "./routes";

/** Whoever looks is told so often. */
const POLL_MS = 5000;

export interface DashboardNode {
  namespace: string;
  nodeID: string;
  logger: Logger;
}

/** One request, as the mount has made it out. */
export interface Asked {
  req: IncomingMessage;
  res: ServerResponse;
  /** What comes after the mount: "" for the mount itself, "/" for the page, "/api/list". */
  path: string;
  query: string;
  /** Who has logged in. */
  user: unknown;
  ask: Ask;
}

/** Answers the browser: the page's files, its reads and its acts. Knows neither its prefix nor who listens. */
export class Dashboard {
  readonly #warnings: Warnings;
  readonly #rights: AccessParts;
  readonly #payloads: PayloadParts;

  constructor(
    private readonly options: DashboardOptions,
    private readonly node: DashboardNode,
    private readonly assets: ReadonlyMap<string, Asset>
  ) {
    const { access, readOnly, hidePayloads, redact } = options;
    this.#warnings = new Warnings(printableLogger(node.logger));
    this.#rights = { access, readOnly, warnings: this.#warnings };
    this.#payloads = { hidePayloads, redact, warnings: this.#warnings, namespace: node.namespace };
  }

  /** Never rejects. */
  async answer(asked: Asked): Promise<void> {
    try {
      await this.#answer(asked);
    } catch (error) {
      this.fail(asked.req, asked.res, error);
    }
  }

  /** Answers what was refused, or has failed, before or here. */
  fail(req: IncomingMessage, res: ServerResponse, error: unknown): void {
    const status = sendError(req, res, error);
    if (status !== 500) return;
    // Its fields may hold a request, and its text an address with a password.
    const { message, stack = message } = sanitizeError(error);
    this.#warnings.error("dashboard", message, `Reliable: a request of the dashboard has failed: ${stack}`);
  }

  stop(): void {
    this.#warnings.flush();
  }

  async #answer({ req, res, path, query, ...caller }: Asked): Promise<void> {
    const asset = this.assets.get(path === "/" ? "index.html" : path.slice(1));
    if (path === "") {
      if (allowed(req, res, "GET", "HEAD")) this.#redirect(req, res, query);
    } else if (asset) {
      if (allowed(req, res, "GET", "HEAD")) sendAsset(req, res, asset);
    } else await this.#api({ req, res, path, query, ...caller });
  }

  /** Relative, so that it holds behind a proxy that adds or strips a prefix. */
  #redirect(req: IncomingMessage, res: ServerResponse, query: string): void {
    const last = this.options.path.slice(this.options.path.lastIndexOf("/") + 1);
    sendBare(req, res, 308, { location: `${last}/${query && `?${query}`}` });
  }

  async #api(asked: Asked): Promise<void> {
    const { req, res, path, query, ask, user } = asked;
    const name = path.startsWith("/api/") ? path.slice("/api/".length) : "";
    const read = READ_ROUTES.get(name);
    if (name === "session" || read) {
      if (!allowed(req, res, "GET", "HEAD")) return;
      checkReader(req);
      const rights = await rightsOf(this.#rights, user, req);
      const params = paramsOf(new URLSearchParams(query));
      sendJson(req, res, read ? await read(params, ask, this.#payloads) : this.#session(user, rights));
      return;
    }
    if (!ACT_ROUTES.has(name)) throw new HttpError(404, API_ERRORS.noPage, "There is nothing at this address.");
    if (allowed(req, res, "POST")) await this.#act(name, asked);
  }

  async #act(name: string, { req, res, user, ask }: Asked): Promise<void> {
    const route = ACT_ROUTES.get(name);
    if (!route) return;
    checkActor(req, this.options.origins);
    const rights = await rightsOf(this.#rights, user, req);
    const body = await bodyOf(req);
    checkAct(rights, await route.right(body, ask));
    route.check(body);
    sendJson(req, res, await route.answer(body, ask));
  }

  #session(user: unknown, { access, acts }: Rights): Session {
    const { badge, hidePayloads, traceUrl } = this.options;
    const { namespace, nodeID } = this.node;
    return {
      user: userName(user),
      access,
      acts,
      ...(badge && { badge }),
      namespace,
      version: VERSION,
      hidePayloads,
      ...(traceUrl !== undefined && { traceUrl }),
      pollMs: POLL_MS,
      nodeID
    };
  }
}

/** If not, it has been answered. A preflight gets no leave: nobody else's page may ask. */
function allowed(req: IncomingMessage, res: ServerResponse, ...methods: string[]): boolean {
  if (methods.includes(req.method ?? "")) return true;
  const allow = [...methods, "OPTIONS"].join(", ");
  if (req.method === "OPTIONS") sendBare(req, res, 204, { allow });
  else throw new HttpError(405, API_ERRORS.badRequest, `This address takes ${methods.join(", ")} only.`, { allow });
  return false;
}
