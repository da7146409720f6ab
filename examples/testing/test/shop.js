const path = require("node:path");
const { ServiceBroker } = require("moleculer");
const { reliableTesting } = require("moleculer-reliable-emit/testing");

/** The services as they are, a mail server that only remembers, and the test kit. */
module.exports = function shop() {
  const broker = new ServiceBroker({ logger: false });
  const reliable = reliableTesting(broker);
  broker.loadServices(path.join(__dirname, "../services"));
  const mails = new Map();
  broker.createService({
    name: "smtp",
    actions: { send: ctx => void mails.set(ctx.params.key, ctx.params.text) }
  });
  return { broker, reliable, mails };
};
