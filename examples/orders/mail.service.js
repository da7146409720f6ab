"use strict";

const { ReliableEmit } = require("moleculer-reliable-emit");

/** Sends a confirmation for each order. Does nothing about failures: it throws, and the message comes again. */
module.exports = ({ options, mailServer }) => ({
  name: "mail",
  mixins: [ReliableEmit(options)],

  events: {
    "order.created": {
      reliable: { maxInFlight: 10, handlerTimeoutMs: 3000 },
      params: { id: "string", email: "email" },
      async handler(ctx) {
        const { id, email } = ctx.params;
        const answer = await fetch(mailServer, { method: "POST", body: JSON.stringify({ id, to: email }) }).catch(
          error => {
            throw new Error(`the mail server does not answer (${error.cause?.code ?? error.message})`);
          }
        );
        if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
      }
    }
  }
});
