import { AmqpCourier } from "../../src/couriers/amqp/courier";
import { MemoryCourier } from "../../src/couriers/memory/courier";
import { systemClock } from "../../src/platform/clock";
import { backend } from "../support/brokers";
import { recordingLogger, uniqueName } from "../support/couriers";
import { atBroker } from "../support/rabbitmq";
import { urls } from "../support/servers";
import { courierSuite } from "./courier";

if (backend === "real")
  courierSuite({
    name: "amqp",
    features: { durable: true, shared: true },
    create: namespace =>
      new AmqpCourier({
        urls: urls().amqp,
        namespace,
        nodeID: uniqueName("node"),
        logger: recordingLogger(),
        clock: systemClock
      }),
    cleanUp: namespace => atBroker(async channel => void (await channel.deleteExchange(`${namespace}.reliable.events`)))
  });
else
  courierSuite({
    name: "memory",
    features: { durable: false, shared: false },
    create: namespace => new MemoryCourier({ namespace, logger: recordingLogger(), clock: systemClock }),
    cleanUp: async () => undefined
  });
