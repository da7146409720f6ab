import { expect, it } from "vitest";
import {
  type GatewayDashboardOptions,
  gatewayOptions,
  type OwnPortDashboardOptions,
  ownPortOptions
} from "../../src/dashboard/options";
import { errorOf } from "../support/services";

const gateway = (options: object) => () => gatewayOptions(options as GatewayDashboardOptions);
const ownPort = (options: object) => () => ownPortOptions(options as OwnPortDashboardOptions);

async function refusal(work: () => unknown): Promise<{ option: unknown; message: string }> {
  const { type, message, data } = await errorOf(work);
  expect(type).toBe("RELIABLE_BAD_OPTION");
  return { option: (data as { option?: unknown }).option, message };
}

it.each([
  ["a gateway without anybody who asks for a name", gateway({})],
  ["one that says so with false", gateway({ authentication: false, authorization: false })],
  ["one that has access alone", gateway({ access: () => "all" })],
  ["an own port without anybody who asks for a name", ownPort({})],
  ["one that has access alone", ownPort({ access: () => "all", ip: "0.0.0.0" })]
])("%s is refused: it must be said that nobody has to log in", async (_, work) => {
  const { option, message } = await refusal(work);
  expect(option).toBe("authentication");
  expect(message).toContain('access: "anonymous"');
});

it("said, it is taken", () => {
  expect(gatewayOptions({ access: "anonymous" })).toMatchObject({ access: "anonymous", path: "/reliable" });
  expect(ownPortOptions({ access: "anonymous" })).toMatchObject({ access: "anonymous", path: "" });
  expect(gatewayOptions({ authorization: "mayOperate" }).access).toBeUndefined();
});

it.each<[string, () => unknown, string, string]>([
  ["both ways at once", gateway({ authentication: true, access: "anonymous" }), "access", "either one or the other"],
  ["both ways at once", ownPort({ users: { a: "b" }, access: "anonymous" }), "access", "either one or the other"],
  ["two ways to log in", ownPort({ users: { a: "b" }, authentication: () => "a" }), "users", "not both"],
  ["an access that is no function", gateway({ authentication: true, access: "all" }), "access", "access"],
  ["an unknown option", gateway({ authentication: true, readonly: true }), "readonly", "Did you mean 'readOnly'?"],
  ["an option of the other way", gateway({ authentication: true, port: 3400 }), "port", "port"],
  ["no users", ownPort({ users: {} }), "users", "names and passwords"],
  ["users of another kind", ownPort({ users: ["a", "b"] }), "users", "names and passwords"],
  ["a user without a password", ownPort({ users: { emma: "" } }), "users", "no password for 'emma'"],
  ["a password that is a number", ownPort({ users: { emma: 7 } }), "users", "no password for 'emma'"],
  ["a name with a colon", ownPort({ users: { "a:b": "c" } }), "users", "a:b"],
  ["a path that is a pattern", gateway({ authentication: true, path: "/:x" }), "path", "/:x"],
  ["a path without its slash", gateway({ authentication: true, path: "reliable" }), "path", "reliable"],
  ["a path that goes up", gateway({ authentication: true, path: "/a/../b" }), "path", "/a/../b"],
  ["an origin with a path", gateway({ authentication: true, origins: ["https://a.example/x"] }), "origins", "https://"],
  ["an origin that is a host", gateway({ authentication: true, origins: ["a.example"] }), "origins", "a.example"],
  ["every origin", gateway({ authentication: true, origins: ["*"] }), "origins", "*"],
  ["a link that runs", gateway({ authentication: true, traceUrl: "javascript:alert(1)" }), "traceUrl", "https://"],
  ["a badge without text", gateway({ authentication: true, badge: {} }), "badge.text", "badge.text"],
  ["a port that is none", ownPort({ access: "anonymous", port: 70_000 }), "port", "70000"],
  ...["use", "aliases", "bodyParsers", "cors", "whitelist", "onError", "authentication"].map(
    (name): [string, () => unknown, string, string] => [
      `the gateway's '${name}' for our route`,
      gateway({ authentication: true, routeOptions: { [name]: true } }),
      "routeOptions",
      `routeOptions.${name}`
    ]
  )
])("%s is refused, with its name", async (_, work, option, text) => {
  const refused = await refusal(work);
  expect(refused.option).toBe(option);
  expect(refused.message).toContain(text);
});

it("no password is in the text of an error", async () => {
  const secret = "hunter2-secret";
  const texts = [
    ownPort({ users: { emma: secret }, prot: 1 }),
    ownPort({ users: { emma: secret, "a:b": secret } }),
    ownPort({ users: { emma: secret }, access: "anonymous" })
  ];
  for (const work of texts) {
    const error = await errorOf(work);
    expect(`${error.message} ${JSON.stringify(error)}`).not.toContain(secret);
  }
});

it("a path and an origin have one form", () => {
  const { path, origins } = ownPortOptions({
    access: "anonymous",
    path: "/ops/reliable/",
    origins: ["HTTPS://Ops.Example.com:443/", "http://10.0.0.7:8080"]
  });
  expect(path).toBe("/ops/reliable");
  expect(origins).toEqual(["https://ops.example.com", "http://10.0.0.7:8080"]);
});
