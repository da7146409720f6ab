import type { ServiceBroker } from "moleculer";
import { ReliableError } from "../src/errors";
import { type ReliableTestKit, TestKit, type WaitOptions } from "../src/testing/kit";
import type { Broker } from "./broker";
import { nodeOf } from "./node";
import { ensureReliableService } from "./reliable.service";

export type { AnyEmittedMessage, EmittedMessage } from "../src/testing/emitted";
export type { ReliableTestKit, WaitOptions } from "../src/testing/kit";
export type { PartialPayload } from "../src/testing/match";

/**
 * A test kit for the services of a broker, or of several that are nodes of one cluster: whatever their options say of
 * servers, they run on an in-process courier and an embedded store, which they share with no other kit, and by a clock
 * that the test moves. Before `broker.start()`. For any test framework.
 *
 *   const broker = new ServiceBroker({ logger: false });
 *   const { emitted, settled } = reliableTesting(broker);
 *
 * `timeoutMs`: how long the kit waits in real time, 4000 ms by default. Throws RELIABLE_BAD_OPTION, also when a broker
 * has started or has a kit, and RELIABLE_WRONG_VERSION.
 */
export function reliableTesting(brokers: ServiceBroker | ServiceBroker[], options?: WaitOptions): ReliableTestKit {
  const nodes = [brokers].flat() as Broker[];
  if (!nodes.length || nodes.some(broker => typeof broker?.createService !== "function"))
    throw new ReliableError("RELIABLE_BAD_OPTION", "The test kit needs a ServiceBroker, or a list of them.", {
      option: "brokers"
    });
  const kit = new TestKit(options);
  for (const broker of nodes) {
    kit.attach(nodeOf(broker).runtime);
    // With services that are there already: by what they had said of servers it may have had no store.
    if (broker.services.some(service => "$reliable" in service)) ensureReliableService(broker);
  }
  return kit;
}
