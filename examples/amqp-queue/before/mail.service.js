"use strict";

const QueueMixin = require("moleculer-amqp-queue");
const mailServer = require("../mail-server");

const queue = process.env.MAIL_QUEUE ?? "mail.send";

module.exports = {
  name: "mail",
  mixins: [QueueMixin],
  settings: { url: process.env.AMQP_URL },
  actions: {
    async send(ctx) {
      return this.addAMQPJob(queue, { to: ctx.params.to });
    }
  },
  AMQPQueues: {
    async [queue](channel, msg) {
      const { to } = JSON.parse(msg.content.toString());
      await mailServer.deliver(to, this.broker.nodeID);
      channel.ack(msg);
    }
  }
};
