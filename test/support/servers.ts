import { inject } from "vitest";

export interface ServerUrls {
  amqp: string;
  mongo: string;
  redis: string;
}

/** Addresses of the real servers, found or started by `global-setup.ts` before the first test. */
export function urls(): ServerUrls {
  const given = inject("servers");
  if (!given)
    throw new Error(
      "No test servers. Run the tests with `npm test`, or start the servers with `test/servers/servers start`."
    );
  return given;
}

declare module "vitest" {
  interface ProvidedContext {
    servers: ServerUrls;
  }
}
