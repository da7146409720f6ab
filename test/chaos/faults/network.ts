import type { TcpProxy } from "../../support/tcp-proxy";
import type { Link, Role } from "../cluster";
import type { Fault, Run } from "../run";

const THROUGH: Partial<Record<Role, Link[]>> = {
  producer: ["amqp", "mongo"],
  consumer: ["amqp", "mongo"],
  sweeper: ["amqp", "mongo", "redis"],
  callback: ["amqp", "mongo"]
};

/** Each connection of each role in turn, in an order of the seed. */
const onEachLink = (name: string, title: string, act: (proxy: TcpProxy, run: Run) => Promise<void>): Fault => ({
  name: `network-${name}`,
  title: `network: ${title}, on each connection of each role in turn`,
  shape: { rate: 700, through: THROUGH },
  async inject(run) {
    for (const { role, link, proxy } of run.shuffled(run.cluster.links)) {
      run.progress(`${name} between ${role} and ${link}`);
      await act(proxy, run);
      await run.sleep(run.int(200, 800));
    }
  }
});

export const networkFaults: Fault[] = [
  onEachLink("reset", "connections reset, twice", async (proxy, run) => {
    proxy.reset();
    await run.sleep(run.int(100, 1500));
    proxy.reset();
  }),
  onEachLink("black-hole", "4 s in which nothing comes through, and nobody is told", async (proxy, run) => {
    proxy.hold();
    await run.sleep(4000);
    proxy.release();
  }),
  onEachLink("half-open", "the server's end gone, the client not told", async (proxy, run) => {
    proxy.halfOpen();
    await run.sleep(3000);
  }),
  onEachLink("latency", "500 ms more in each direction for 4 s", async (proxy, run) => {
    proxy.delay(500);
    await run.sleep(4000);
    proxy.delay(0);
  }),
  onEachLink("cut-frame", "cut in the middle of a frame, thrice", async (proxy, run) => {
    for (let i = 0; i < 3; i++) {
      proxy.cut();
      await run.sleep(run.int(300, 1200));
    }
  })
];
