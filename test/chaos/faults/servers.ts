import { eventQueue, prefixOf } from "../../../src/wire/names";
import type { Fault, Run } from "../run";
import type { ServerName, Servers } from "../servers";

const OUTAGE_MS = 4000;
/** Longer than every timeout, socket timeouts of the driver included. */
const STORE_FROZEN_MS = 22_000;

/** Begun, and ended after so long. */
const lasting = (
  name: string,
  title: string,
  ms: number,
  begin: (servers: Servers) => Promise<unknown>,
  end: (servers: Servers) => Promise<unknown>
): Fault => ({
  name,
  title,
  async inject(run) {
    await begin(run.servers);
    await run.sleep(ms);
    await end(run.servers);
  }
});

const frozen = (name: string, title: string, server: ServerName, ms: number): Fault =>
  lasting(
    name,
    title,
    ms,
    servers => servers.freeze(server),
    servers => servers.thaw(server)
  );

const alarm = (name: string, title: string, on: string[], off: string[]): Fault =>
  lasting(
    name,
    title,
    OUTAGE_MS,
    servers => servers.ctl(...on),
    servers => servers.ctl(...off)
  );

const crash = async (run: Run): Promise<void> => {
  await run.servers.kill("rabbitmq");
  await run.servers.start("rabbitmq");
};

/** Erlang terms for `rabbitmqctl eval`. */
const resource = (kind: "queue" | "exchange", name: string) => `rabbit_misc:r(<<"/">>, ${kind}, <<"${name}">>)`;
const evaluate = (run: Run, erlang: string) => run.servers.ctl("eval", `${erlang}.`);

const rabbitmq: Fault[] = [
  {
    name: "rabbitmq-kill",
    title: "RabbitMQ: SIGKILL and restart, twice",
    async inject(run) {
      await crash(run);
      await run.sleep(run.int(1000, 3000));
      await crash(run);
    }
  },
  lasting(
    "rabbitmq-stop-app",
    "RabbitMQ: `stop_app`, `start_app`",
    OUTAGE_MS,
    servers => servers.ctl("stop_app"),
    servers => servers.ctl("start_app")
  ),
  {
    name: "rabbitmq-close-connections",
    title: "RabbitMQ: `close_all_connections`, four times",
    async inject(run) {
      for (let i = 0; i < 4; i++) {
        await run.servers.ctl("close_all_connections", "--vhost", "/", "chaos");
        await run.sleep(run.int(300, 2500));
      }
    }
  },
  alarm(
    "rabbitmq-memory",
    "RabbitMQ: memory alarm",
    ["set_vm_memory_high_watermark", "0.00001"],
    ["set_vm_memory_high_watermark", "0.6"]
  ),
  alarm("rabbitmq-disk", "RabbitMQ: disk alarm", ["set_disk_free_limit", "900GB"], ["set_disk_free_limit", "50MB"]),
  frozen("rabbitmq-freeze", "RabbitMQ: frozen for 9 s, longer than every timeout", "rabbitmq", 9000),
  {
    name: "rabbitmq-queue-deleted",
    title: "RabbitMQ: a group's queue deleted with all that is in it, under its consumers",
    async inject(run) {
      for (const [group, event] of run.shuffled([
        ["on", "order.kept"],
        ["tx", "order.ledger"],
        ["off", "order.shared"]
      ] as const)) {
        const queue = eventQueue(run.namespace, group, event);
        await evaluate(
          run,
          `{ok, Q} = rabbit_amqqueue:lookup(${resource("queue", queue)}), rabbit_amqqueue:delete(Q, false, false, <<"chaos">>)`
        );
        await run.sleep(run.int(500, 1500));
      }
    }
  },
  {
    name: "rabbitmq-binding-removed",
    title: "RabbitMQ: the binding of a group removed",
    async inject(run) {
      const [queue, exchange] = [eventQueue(run.namespace, "on", "order.kept"), `${prefixOf(run.namespace)}.events`];
      await evaluate(
        run,
        `rabbit_binding:remove({binding, ${resource("exchange", exchange)}, <<"order.kept">>, ${resource("queue", queue)}, []}, <<"chaos">>)`
      );
      await run.sleep(OUTAGE_MS);
    }
  },
  {
    name: "rabbitmq-exchange-deleted",
    title: "RabbitMQ: the exchange of the events deleted",
    async inject(run) {
      await evaluate(
        run,
        `rabbit_exchange:delete(${resource("exchange", `${prefixOf(run.namespace)}.events`)}, false, <<"chaos">>)`
      );
      await run.sleep(OUTAGE_MS);
    }
  },
  {
    name: "rabbitmq-restart-in-drain",
    title: "RabbitMQ: orderly restart, as for an upgrade, in the middle of a drain",
    shape: { rate: 2000 },
    async inject(run) {
      await run.load(0.9);
      await run.servers.stop("rabbitmq");
      await run.sleep(1000);
      await run.servers.start("rabbitmq");
    }
  }
];

const store: Fault[] = [
  {
    name: "store-kill",
    title: "store: SIGKILL of the database and restart",
    async inject(run) {
      await run.servers.kill("postgres");
      await run.servers.kill("mongo");
      await run.sleep(run.int(500, 3000));
      await run.servers.start("mongo");
    }
  },
  {
    name: "store-connections",
    title: "store: its connections lost, three times",
    async inject(run) {
      for (let i = 0; i < 3; i++) {
        await run.servers.kill("mongo");
        await run.servers.start("mongo");
        await run.sleep(run.int(500, 2500));
      }
    }
  },
  frozen(
    "store-freeze",
    `store: frozen for ${STORE_FROZEN_MS / 1000} s, longer than every timeout`,
    "mongo",
    STORE_FROZEN_MS
  ),
  {
    name: "store-slow",
    title: "store: every answer 300 ms late",
    shape: {
      rate: 600,
      through: { producer: ["mongo"], consumer: ["mongo"], sweeper: ["mongo"], callback: ["mongo"] }
    },
    async inject(run) {
      for (const { proxy } of run.cluster.links) proxy.delay(150);
      await run.sleep(8000);
      for (const { proxy } of run.cluster.links) proxy.delay(0);
    }
  }
];

const flush = async (run: Run) => {
  const { Redis } = await import("ioredis");
  const client = new Redis(run.servers.redis);
  await client.flushall();
  client.disconnect();
};

const redis: Fault[] = [
  lasting(
    "redis-stop",
    "Redis: stopped, and replaced by an empty one",
    OUTAGE_MS,
    servers => servers.stop("redis"),
    servers => servers.start("redis")
  ),
  frozen("redis-freeze", "Redis: frozen for 6 s", "redis", 6000),
  {
    name: "redis-flush",
    title: "Redis: `FLUSHALL`, twenty times",
    async inject(run) {
      for (let i = 0; i < 20; i++) {
        await flush(run);
        await run.sleep(run.int(50, 500));
      }
    }
  },
  {
    name: "two-leases",
    title: "both sweepers hold the lease the whole time (a Redis database each), a consumer killed thrice",
    shape: { redisDatabase: { sweeper2: 1 } },
    async inject(run) {
      for (let i = 0; i < 3; i++) await run.bounce(run.pick(["consumer1", "consumer2"]));
    }
  }
];

export const serverFaults: Fault[] = [...rabbitmq, ...store, ...redis];
