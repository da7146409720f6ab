const { ReliableEmit } = require("moleculer-reliable-emit");
const options = require("./reliable.options");

/** Each mail has a key, so that the mail server takes it once, however often the message comes. */
function mail(text) {
  return {
    reliable: true,
    params: { id: "string", mail: "email" },
    handler(ctx) {
      const { id, mail: to } = ctx.params;
      return ctx.call("smtp.send", { key: ctx.locals.reliable.id, to, text: `${text} ${id}` });
    }
  };
}

module.exports = {
  name: "mail",
  mixins: [ReliableEmit(options)],
  events: {
    "order.created": mail("Thank you for order"),
    "order.unpaid": mail("Please pay order")
  }
};
