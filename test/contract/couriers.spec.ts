import { AmqpCourier } from "../../src/couriers/amqp/courier";
import { MemoryCourier } from "../../src/couriers/memory/courier";
import { systemClock } from "../../src/platform/clock";
import { backend } from "../support/brokers";
import { recordingLogger, uniqueName } from "../support/couriers";
import { atBroker } from "../support/rabbitmq";
import { urls } from "../support/servers";
import { type CourierFactory, courierSuite } from "./courier";
import { pauses } from "./courier-pauses";

const kind: CourierFactory =
  backend === "real"
    ? {
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
        cleanUp: namespace =>
          atBroker(async channel => {
            for (const name of ["events", "control"]) await channel.deleteExchange(`${namespace}.reliable.${name}`);
          })
      }
    : {
        name: "memory",
        features: { durable: false, shared: false },
        create: namespace => new MemoryCourier({ namespace, logger: recordingLogger(), clock: systemClock }),
        cleanUp: async () => undefined
      };

courierSuite(kind);
pauses(kind);
