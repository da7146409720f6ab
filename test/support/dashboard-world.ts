import type { Server } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { ServiceBroker, type ServiceSchema } from "moleculer";
import { ReliableDashboard } from "../../mixins/dashboard";
import type { ReliableOptions } from "../../src";
import type { StatusSeen } from "../../src/emit/status-waiter";
import { type Cluster, cluster, until } from "./brokers";
import { freePort } from "./ports";
import { consumer, type Emit, emitter, emitterOf, serviceOf, subscribed } from "./services";

// moleculer-web has a version for each line.
const loaded = createRequire(__filename)(
  ServiceBroker.MOLECULER_VERSION.startsWith("0.14") ? "moleculer-web-010" : "moleculer-web"
) as ServiceSchema & { default?: ServiceSchema; Errors: { UnAuthorizedError: new (type: string) => Error } };
const web = loaded.default ?? loaded;

type DashboardOptions = Parameters<typeof ReliableDashboard>[0];

/** Who may log in, and what they may do: all, unless it is said. */
const USERS: Record<string, "read" | false | ["retry"]> = { viewer: "read", retrier: ["retry"], stranger: false };

export interface Mail {
  /** Its handler fails, as it does where the password of the mail server is wrong. */
  broken: boolean;
  /** What it fails with. */
  error(): Error;
  handled: string[];
}

export interface World {
  made: Cluster;
  /** Serves the page, and emits. */
  desk: ServiceBroker;
  emit: Emit;
  mail: Mail;
  /** Of the page, with a slash at its end. */
  url: string;
  /** Emits an `order.created` under each id, for the groups `mail` and `stock`, and waits until all are dead in `mail`. */
  dies(...ids: string[]): Promise<void>;
  /** The gateway ends, and is there again at the same address. */
  close(): Promise<void>;
  open(): Promise<void>;
}

export interface Wanted {
  dashboard?: Partial<DashboardOptions>;
  /** Of the gateway service. */
  gateway?: object;
  /** Of all nodes. */
  options?: ReliableOptions;
  /** Further services of the node `desk`. */
  services?(made: Cluster): object[];
}

export const mailError = () =>
  Object.assign(new Error("535 authentication failed"), { name: "MailError", code: "EAUTH", retryable: false });

/** A gateway as its README shows it, whose users come with a cookie. */
export function gateway(dashboard: Partial<DashboardOptions> = {}, more: object = {}): ServiceSchema {
  return {
    name: "api",
    mixins: [
      web,
      ReliableDashboard({
        path: "/reliable",
        authentication: true,
        access: (user: unknown) => USERS[(user as { username: string }).username] ?? "all",
        ...dashboard
      })
    ],
    settings: { port: 0, ip: "127.0.0.1", routes: [{ path: "/api" }] },
    methods: {
      authenticate(_ctx: unknown, _route: unknown, req: { headers: { cookie?: string } }) {
        const username = /\buser=(\w+)/.exec(req.headers.cookie ?? "")?.[1];
        if (!username) throw new loaded.Errors.UnAuthorizedError("NO_TOKEN");
        return Promise.resolve({ username });
      }
    },
    ...more
  } as unknown as ServiceSchema;
}

function serverOf(broker: ServiceBroker, name = "api"): Server {
  return (broker.getLocalService(name) as unknown as { server: Server }).server;
}

export const portOf = (broker: ServiceBroker, name = "api") => (serverOf(broker, name).address() as AddressInfo).port;

/**
 * Orders, of which two groups hear: `stock` on the node `desk` handles them; `mail` on the node `mail-2` fails, until it
 * is mended. The page is at a gateway on `desk`.
 */
export async function world({ dashboard, gateway: more, options = {}, services }: Wanted = {}): Promise<World> {
  const made = cluster();
  const mixin = made.mixin(options);
  const mail: Mail = { broken: true, error: mailError, handled: [] };
  const send = (ctx: { locals: { reliable: { id: string } } }) => {
    if (mail.broken) throw mail.error();
    mail.handled.push(ctx.locals.reliable.id);
  };
  await made.node("mail-2", [consumer(mixin, "mail", "order.created", send as never)]);
  const page = gateway(dashboard, more);
  // Below the ports that a kernel gives to clients: one of them would have it before the page is opened again.
  Object.assign(page.settings as object, { port: await freePort(14_000, 30_000) });
  const desk = await made.node("desk", [
    emitter(mixin, "orders"),
    consumer(mixin, "stock", "order.created", () => undefined),
    page,
    ...(services?.(made) ?? [])
  ]);
  await subscribed(desk, 2);
  const emit = emitterOf(desk, "orders");
  const port = portOf(desk);
  return {
    made,
    desk,
    emit,
    mail,
    url: `http://127.0.0.1:${port}/reliable/`,
    async dies(...ids) {
      await Promise.all(ids.map(id => emit("order.created", { id }, { id, keys: { order: id.replace(/\D+/, "") } })));
      await until(
        () => desk.call<StatusSeen[], object>("reliable.statuses", { ids }),
        seen => seen.length === ids.length && seen.every(({ status }) => status === "dead"),
        60_000
      );
    },
    async close() {
      const server = serverOf(desk);
      const destroyed = desk.destroyService(serviceOf(desk, "api"));
      // A browser opens connections ahead: with one that never asked anything a server waits for ever.
      await until(() => !server.listening);
      server.closeAllConnections();
      await destroyed;
    },
    async open() {
      const schema = gateway(dashboard, more);
      desk.createService({ ...schema, settings: { ...schema.settings, port } });
      await desk.waitForServices("api", 30_000);
    }
  };
}
