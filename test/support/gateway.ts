import { createRequire } from "node:module";
import { ServiceBroker, type ServiceSchema } from "moleculer";
import { onTestFinished } from "vitest";
import { ReliableDashboard } from "../../mixins/dashboard";
import type { GatewayDashboardOptions } from "../../src/dashboard/options";
import { Capture } from "./brokers";

// moleculer-web has a version for each line.
const web = createRequire(__filename)(
  ServiceBroker.MOLECULER_VERSION.startsWith("0.14") ? "moleculer-web-010" : "moleculer-web"
) as ServiceSchema & { default?: ServiceSchema };

/** The gateway's mixin. */
export const ApiGateway: ServiceSchema = web.default ?? web;

/** A gateway with the page, as the guide shows it. `more`: of the service. */
export function gatewayWithPage(
  options: GatewayDashboardOptions,
  more: { settings?: object; [part: string]: unknown } = {}
): ServiceSchema {
  return {
    name: "api",
    mixins: [ApiGateway, ReliableDashboard(options)],
    ...more,
    settings: { port: 0, ip: "127.0.0.1", ...more.settings }
  } as unknown as ServiceSchema;
}

/** 0 = it listens to none. */
export function portOf(broker: ServiceBroker, name = "api"): number {
  const { server } = broker.getLocalService(name) as unknown as { server?: { address(): { port: number } } };
  return server?.address().port ?? 0;
}

/** A started node without servers and without other nodes: for what needs no messages. */
export async function loneNode(services: object[]): Promise<{ broker: ServiceBroker; logs: string[] }> {
  const logs: string[] = [];
  const registry = { stopDelay: 0 } as never;
  const broker = new ServiceBroker({ nodeID: "node-1", logger: new Capture("node-1", logs) as never, registry });
  onTestFinished(() => broker.stop().catch(() => undefined));
  for (const service of services) broker.createService(service as ServiceSchema);
  await broker.start();
  return { broker, logs };
}
