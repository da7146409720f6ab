import { describe, expect, it } from "vitest";
import { type Cluster, cluster, until } from "../support/brokers";
import { startNode, type TestNode } from "../support/child";
import type { QueueNode } from "../support/queue-node";
import { jobQueue, plainUrl, queued } from "../support/queues";
import { atBroker, rabbitmqctl } from "../support/rabbitmq";
import { urls } from "../support/servers";
import { reaches } from "../support/services";
import { type TcpProxy, tcpProxy } from "../support/tcp-proxy";

/** A process with one service whose every connection to RabbitMQ goes through `net`. */
async function started(made: Cluster, queue: string, reliable: boolean): Promise<{ node: TestNode; net: TcpProxy }> {
  const { hostname, port } = new URL(urls().amqp);
  const net = await tcpProxy({ host: hostname, port: Number(port) });
  const url = plainUrl(net.port);
  const options = { ...made.options({ amqp: url }), queues: { [queue]: { settle: "receipt" as const } } };
  const node = await startNode("test/support/queue-node.ts", {
    env: {
      NODE: JSON.stringify({
        namespace: made.namespace,
        nodeID: "node",
        url,
        queue,
        ...(reliable && { options })
      } satisfies QueueNode)
    }
  });
  await node.next("started");
  node.tell("add", { n: 1 });
  expect(await node.next("handled")).toEqual({ n: 1 });
  return { node, net };
}

/** Whoever consumes the queue loses the connection, by an operator's command. */
async function closeConsumersOf(queue: string): Promise<void> {
  const rows = async (...args: string[]) =>
    (await rabbitmqctl("-q", "--no-table-headers", ...args))
      .trim()
      .split("\n")
      .map(line => line.split("\t"));
  const channels = (await rows("list_consumers", "queue_name", "channel_pid"))
    .filter(([name]) => name === queue)
    .map(([, channel]) => channel);
  const connections = (await rows("list_channels", "pid", "connection"))
    .filter(([channel]) => channels.includes(channel))
    .map(([, connection]) => connection as string);
  expect(connections).toHaveLength(1);
  await rabbitmqctl("-q", "close_connection", connections[0] as string, "closed by a test");
}

function consumers(queue: string): Promise<number> {
  return atBroker(async channel => (await channel.checkQueue(queue)).consumerCount);
}

describe("moleculer-amqp-queue by itself, when its connection is lost", () => {
  it("dies of a reset: nobody listens to the connection's errors", async () => {
    const made = cluster();
    const { node, net } = await started(made, jobQueue(made), false);
    net.reset();
    const { code } = await node.exited;
    expect(code).not.toBe(0);
    expect(node.output).toMatch(/Unhandled 'error' event|ECONNRESET/);
    await net.close();
  });

  it("hangs after an operator's close: the process lives, consumes no more, and cannot send", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const { node, net } = await started(made, queue, false);
    await closeConsumersOf(queue);
    await until(
      () => consumers(queue),
      count => count === 0
    );
    node.tell("add", { n: 2 });
    // Its own error path: a ReferenceError in place of the error that was meant.
    expect(await node.next("refused")).toMatch(/ReferenceError|IllegalOperationError/);
    await node.kill();
    await net.close();
  });
});

describe("with the mixin beside it", () => {
  it.each([
    ["a reset", async (_: string, net: TcpProxy) => net.reset()],
    ["an operator's close", (queue: string) => closeConsumersOf(queue)]
  ])(
    "%s costs nothing: it connects again, and every job is handled",
    async (_, fault) => {
      const made = cluster();
      const queue = jobQueue(made);
      const { node, net } = await started(made, queue, true);
      const desk = await made.node("desk", [queued(made, "desk")]);
      const ids: string[] = [await node.next<string>("added")];
      const add = async (n: number) => {
        node.tell("add", { n });
        ids.push(await node.next<string>("added"));
      };
      let broken = false;
      for (let n = 2; n <= 10; n++) await add(n);
      const breaking = fault(queue, net).finally(() => (broken = true));
      // Jobs go on all the time, and for a while after.
      for (let after = 0; after < 20; after += broken ? 1 : 0) await add(ids.length + 1);
      await breaking;
      for (const id of ids) expect(await reaches(desk, id, "consumed")).toMatchObject({ queue, settle: "receipt" });
      const handled = new Set([1, ...node.all<{ n: number }>("handled").map(({ n }) => n)]);
      expect(ids.map((_, i) => i + 1).filter(n => !handled.has(n))).toEqual([]);
      await until(
        () => consumers(queue),
        count => count === 1
      );
      await node.kill("SIGTERM");
      await net.close();
    },
    240_000
  );

  it("a worker killed in the middle of a job: another one gets it", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const { node, net } = await started(made, queue, true);
    const desk = await made.node("desk", [queued(made, "desk")]);
    await node.next("added");
    node.tell("add", { n: 2, hold: true });
    const id = await node.next<string>("added");
    expect(await node.next("handled")).toMatchObject({ n: 2 });
    await node.kill("SIGKILL");
    const seen: unknown[] = [];
    await made.node("other", [
      queued(
        made,
        "mail",
        {},
        {
          [queue]: (channel, message) => {
            seen.push(JSON.parse(message.content.toString()));
            return channel.ack(message);
          }
        }
      )
    ]);
    expect(await reaches(desk, id, "consumed")).toMatchObject({ settle: "receipt", attempts: 1 });
    expect(seen).toEqual([{ n: 2, hold: true }]);
    await net.close();
  });
});
