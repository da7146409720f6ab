import type { ChannelModel } from "amqplib";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { BrokerAddress } from "../../src/couriers/amqp/addresses";
import type { AmqpConnection } from "../../src/couriers/amqp/connection";
import { NO_QUORUM, NoAnswer } from "../../src/couriers/amqp/declare";
import { Hosts } from "../../src/couriers/amqp/hosts";
import { Placement } from "../../src/couriers/amqp/placement";
import { systemClock } from "../../src/platform/clock";

const SECOND = 1000;
const MINUTE = 60 * SECOND;

/** A connection that opens again, at the current host, as soon as it is destroyed. */
class Fake {
  model = {} as ChannelModel;
  destroyed = 0;
  constructor(
    readonly hosts: Hosts,
    public host: BrokerAddress
  ) {}
  destroy(): void {
    this.destroyed++;
    this.host = this.hosts.current;
  }
  async move(
    host: BrokerAddress,
    prove: (model: ChannelModel) => Promise<void>,
    carry: (model: ChannelModel) => Promise<void>
  ): Promise<void> {
    await prove({ host } as unknown as ChannelModel);
    this.host = host;
    await carry(this.model);
  }
}

function world() {
  const all = ["a", "b", "c"].map(label => ({ label, url: label }));
  const hosts = new Hosts(all, "node-1");
  const { home } = hosts;
  const [declare, publish, consume] = [new Fake(hosts, home), new Fake(hosts, home), new Fake(hosts, home)];
  const state = { confirmedAt: Number.NEGATIVE_INFINITY, cut: new Set<BrokerAddress>(), frozen: false };
  const carried: string[] = [];
  const lines: string[] = [];
  const log = (text: unknown) => void lines.push(String(text));
  const real = (fake: Fake) => fake as unknown as AmqpConnection;
  const placement = new Placement({
    ...{ hosts, clock: systemClock, logger: { error: log, warn: log, info: log, debug: log } },
    ...{ declare: real(declare), publish: real(publish), consume: real(consume) },
    confirmedAt: () => state.confirmedAt,
    async prove(model) {
      const { host = declare.host } = model as unknown as { host?: BrokerAddress };
      if (state.frozen) await systemClock.sleep(5 * SECOND);
      if (!state.cut.has(host)) return;
      if (model === declare.model) {
        declare.destroy();
        placement.declareLost(NO_QUORUM, host);
      }
      throw new NoAnswer(NO_QUORUM);
    },
    carry: { publish: async () => void carried.push("publish"), consume: async () => void carried.push("consume") }
  });
  placement.start();
  const where = () => [declare, publish, consume].map(({ host }) => host.label).join("");
  const confirm = () => (state.confirmedAt = systemClock.monotonic());
  return { state, placement, hosts, home, where, confirm, carried, lines, cut: state.cut, publish, consume, declare };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it("a host that takes no change is left by all connections there within seconds, and gone back to when it does", async () => {
  const { where, home, cut, carried } = world();
  cut.add(home);
  await vi.advanceTimersByTimeAsync(11 * SECOND);
  expect(where()).not.toContain(home.label);
  // It is tried again and again.
  await vi.advanceTimersByTimeAsync(5 * MINUTE);
  expect(where()).not.toContain(home.label);
  expect(carried).toEqual([]);
  cut.clear();
  await vi.advanceTimersByTimeAsync(16 * MINUTE);
  expect(where()).toBe(home.label.repeat(3));
  expect(carried).toEqual(["publish", "consume"]);
});

it("one that confirms publishes is not left for a declare; when it confirms no more, it is", async () => {
  const { where, home, placement, confirm, hosts } = world();
  await vi.advanceTimersByTimeAsync(5 * SECOND);
  confirm();
  placement.declareLost(NO_QUORUM, home);
  expect(where()).toBe(home.label.repeat(3));
  await vi.advanceTimersByTimeAsync(5 * SECOND);
  confirm();
  await vi.advanceTimersByTimeAsync(6 * SECOND);
  expect(where()).toBe(home.label.repeat(3));
  placement.declareLost(NO_QUORUM, home);
  await vi.advanceTimersByTimeAsync(11 * SECOND);
  expect(where()).toBe(hosts.current.label.repeat(3));
  expect(hosts.current).not.toBe(home);
});

it("where no host answers, consumers are moved once, and then more and more seldom, until a confirm has come", async () => {
  const { placement, publish, consume, confirm } = world();
  const silent = async (times: number, everyMs: number) => {
    for (let n = 0; n < times; n++) {
      placement.silent(publish as unknown as AmqpConnection, "no confirms");
      await vi.advanceTimersByTimeAsync(everyMs);
    }
  };
  await silent(2, 25 * SECOND);
  expect([publish.destroyed, consume.destroyed]).toEqual([2, 1]);
  await silent(60, 30 * SECOND);
  expect(publish.destroyed).toBe(62);
  expect(consume.destroyed).toBeLessThanOrEqual(6);
  const before = consume.destroyed;
  confirm();
  await vi.advanceTimersByTimeAsync(20 * SECOND);
  await silent(1, 0);
  expect(consume.destroyed).toBe(before + 1);
});

it("tells for how long a host has not answered", async () => {
  const { placement, state } = world();
  expect(placement.unansweredMs).toBe(0);
  state.frozen = true;
  await vi.advanceTimersByTimeAsync(13 * SECOND);
  expect(placement.unansweredMs).toBeCloseTo(3 * SECOND, -3);
  await vi.advanceTimersByTimeAsync(2 * SECOND);
  expect(placement.unansweredMs).toBe(0);
});

it("after its end nothing is looked at any more", async () => {
  const { placement, cut, home, where } = world();
  await placement.close();
  cut.add(home);
  await vi.advanceTimersByTimeAsync(MINUTE);
  expect(where()).toBe(home.label.repeat(3));
  expect(vi.getTimerCount()).toBe(0);
});
