import { expect, it } from "vitest";
import { hashOf, PAGES, parseRoute } from "../../src/dashboard/page/kit/route-text";

it("what a link says is what the page reads", () => {
  const params = { event: "order/created?#&=", group: "Grüße 🚀 %41", since: "1h" };
  expect(parseRoute(hashOf("dead", params))).toEqual({ page: "dead", params });
  for (const page of PAGES) expect(parseRoute(hashOf(page))).toEqual({ page, params: {} });
});

it("what is not given does not stand in the address", () => {
  expect(hashOf("messages", { event: undefined, group: "", pageSize: 0 })).toBe("#/messages?pageSize=0");
  expect(hashOf("groups", { group: undefined })).toBe("#/groups");
});

it("the overview is where no page is named", () => {
  for (const hash of ["", "#", "#/"]) expect(parseRoute(hash)).toEqual({ page: "overview", params: {} });
});

it("a page that there is not is told, and an address that is broken ends nothing", () => {
  expect(parseRoute("#/settings?x=1")).toEqual({ page: "overview", params: {}, unknown: "settings" });
  expect(parseRoute("#/__proto__")).toEqual({ page: "overview", params: {}, unknown: "__proto__" });
  expect(parseRoute("#/dead?event=%E4%&group")).toMatchObject({ page: "dead", params: { group: "" } });
});

it("a name that every object seems to have is a param as others are", () => {
  expect(Object.hasOwn(parseRoute("#/dead?__proto__=x").params, "__proto__")).toBe(true);
});
