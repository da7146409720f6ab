// The processes of the servers that are measured, where test/servers/servers has started them.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { urls } from "./world.mjs";

const SCRIPT = fileURLToPath(new URL("../../test/servers/servers", import.meta.url));

const ports = () => ({
  AMQP_PORT: new URL(urls.amqp).port || "5672",
  REDIS_PORT: new URL(urls.redis).port || "6379",
  MONGO_PORT: new URL(urls.mongo).port || "27017"
});

/** By the names of the table's columns. Throws where one of them is not a process of test/servers/servers. */
export function serverPids() {
  const status = execFileSync(SCRIPT, ["status"], { encoding: "utf8", env: { ...process.env, ...ports() } });
  const pid = name => {
    const found = new RegExp(`^${name} .* up, process (\\d+)`, "m").exec(status)?.[1];
    if (!found) throw new Error(`No process of ${name}:\n${status}`);
    return Number(found);
  };
  return { RabbitMQ: [pid("rabbitmq")], PostgreSQL: [pid("postgres")], gateway: [pid("mongo")] };
}
