const assert = require("node:assert/strict");
const { after, before, beforeEach, test } = require("node:test");
const shop = require("./shop");

const DAY = 86_400_000;
const { broker, reliable, mails } = shop();
const order = id => broker.call("orders.create", { id, mail: "a@example.com" });

before(() => broker.start());
beforeEach(async () => {
  await reliable.reset();
  mails.clear();
});
after(() => broker.stop());

test("an order is announced, with its key", async () => {
  await order("o-1");
  const [message, ...others] = reliable.emitted("order.created", { id: "o-1" });
  assert.equal(others.length, 0);
  assert.deepEqual(message.payload, { id: "o-1", mail: "a@example.com" });
  assert.deepEqual(message.keys, { order: "o-1" });
});

test("it gets one mail, though the mail server is down at first", async () => {
  reliable.failNext("mail", new Error("the mail server is down"));
  await order("o-1");
  await reliable.settled();
  assert.deepEqual([...mails.values()], ["Thank you for order o-1"]);
  assert.equal(reliable.emitted("order.created")[0].attempts.mail, 2);
});

test("a mail that nobody accepts is dead, at once", async () => {
  reliable.failNext("mail", Object.assign(new Error("550 no such mailbox"), { retryable: false }));
  await order("o-1");
  await reliable.settled();
  const [message] = reliable.emitted("order.created");
  assert.equal(message.status, "dead");
  assert.match(message.reason, /550 no such mailbox/);
  assert.equal(mails.size, 0);
});

test("an order that is not paid is reminded of, two weeks later", async () => {
  await order("o-1");
  await reliable.advance(14 * DAY - 1);
  assert.deepEqual([...mails.values()], ["Thank you for order o-1"]);
  await reliable.advance(1);
  assert.deepEqual([...mails.values()], ["Thank you for order o-1", "Please pay order o-1"]);
});

test("an order that is paid is not", async () => {
  await order("o-1");
  await broker.call("orders.pay", { id: "o-1" });
  await reliable.advance(365 * DAY);
  assert.deepEqual([...mails.values()], ["Thank you for order o-1"]);
});
