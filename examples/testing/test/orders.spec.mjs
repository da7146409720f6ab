import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import shop from "./shop.js";

const { broker, reliable, mails } = shop();
const order = id => broker.call("orders.create", { id, mail: "a@example.com" });

beforeAll(() => broker.start());
beforeEach(async () => {
  await reliable.reset();
  mails.clear();
});
afterAll(() => broker.stop());

test("an order is announced", async () => {
  await order("o-1");
  expect(reliable.emitted("order.created", { id: expect.stringMatching(/^o-/) })).toMatchObject([
    { payload: { id: "o-1" }, keys: { order: "o-1" }, groups: ["mail"] }
  ]);
});

test("it gets one mail, though the mail server is down at first", async () => {
  reliable.failNext("mail", new Error("the mail server is down"));
  await order("o-2");
  await reliable.settled();
  expect(reliable.emitted("order.created")).toMatchObject([{ status: "consumed", attempts: { mail: 2 } }]);
  expect([...mails.values()]).toEqual(["Thank you for order o-2"]);
});

test("what was emitted in another test is not there, and is not sent later", async () => {
  expect(reliable.emitted()).toEqual([]);
  await reliable.advance(365 * 86_400_000);
  expect(mails.size).toBe(0);
});
