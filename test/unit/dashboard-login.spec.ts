import type { IncomingMessage } from "node:http";
import { expect, it } from "vitest";
import { HttpError } from "../../src/dashboard/http-error";
import { basicLogin, ownLogin } from "../../src/dashboard/login";
import { Warnings } from "../../src/platform/warnings";
import { recorder } from "../support/embedded";
import { errorOf } from "../support/services";

function requestOf(authorization: string | undefined, remoteAddress = "10.0.0.7"): IncomingMessage {
  return { headers: { authorization }, socket: { remoteAddress } } as unknown as IncomingMessage;
}

const basic = (name: string, password: string) => `Basic ${Buffer.from(`${name}:${password}`).toString("base64")}`;

async function refused(work: Promise<unknown>): Promise<HttpError> {
  const error = await errorOf(work);
  expect(error).toBeInstanceOf(HttpError);
  return error as unknown as HttpError;
}

const USERS = { emma: "s3:cret:", Zoë: "pässwörd ✓", __proto__x: "x", constructor: "y" };

it.each(Object.entries(USERS))("%s comes in, with colons and letters of any kind", async (name, password) => {
  expect(await basicLogin(USERS, 0)(requestOf(basic(name, password)))).toEqual({ username: name });
});

it("a letter that is written in two ways is one", async () => {
  const login = basicLogin({ "Zoe\u0308": "pa\u0308ss" }, 0);
  expect(await login(requestOf(basic("Zoë", "päss")))).toEqual({ username: "Zoë" });
});

it("the scheme's name has no case", async () => {
  const header = basic("emma", USERS.emma).replace("Basic", "bASIC");
  expect(await basicLogin(USERS, 0)(requestOf(header))).toEqual({ username: "emma" });
});

it.each<[string, string | undefined]>([
  ["no header", undefined],
  ["a wrong password", basic("emma", "s3:cret")],
  ["an empty password", basic("emma", "")],
  ["no name and no password", basic("", "")],
  ["a name that is not known, without a password", basic("nobody", "")],
  ["a name of every object", basic("toString", "")],
  ["another's password", basic("emma", USERS["Zoë"])],
  ["no colon", `Basic ${Buffer.from("emma").toString("base64")}`],
  ["another scheme", "Bearer abc"],
  ["what is no base64", "Basic %%%"],
  ["two headers in one", `${basic("nobody", "x")}, ${basic("emma", USERS.emma)}`]
])("%s does not come in, and is told how", async (_, header) => {
  const { status, headers } = await refused(basicLogin(USERS, 0)(requestOf(header)));
  expect(status).toBe(401);
  expect(headers["www-authenticate"]).toMatch(/^Basic realm=.+charset="UTF-8"$/);
});

it("for one name of one address ten wrong passwords at a time are looked at; others keep coming in", async () => {
  const login = basicLogin(USERS, 150);
  const wrong = (address: string) => refused(login(requestOf(basic("emma", "wrong"), address)));
  const first = Array.from({ length: 10 }, () => wrong("10.0.0.7"));
  expect((await refused(login(requestOf(basic("emma", USERS.emma), "10.0.0.7")))).status).toBe(429);
  expect(await login(requestOf(basic("emma", USERS.emma), "10.0.0.8"))).toEqual({ username: "emma" });
  // Behind a proxy all have its address.
  expect(await login(requestOf(basic("Zoë", USERS["Zoë"]), "10.0.0.7"))).toEqual({ username: "Zoë" });
  const all = await Promise.all(first);
  expect(all.map(({ status }) => status)).toEqual(all.map(() => 401));
  expect(await login(requestOf(basic("emma", USERS.emma), "10.0.0.7"))).toEqual({ username: "emma" });
});

it("a wrong password costs its time, of whoever", async () => {
  const login = basicLogin(USERS, 200);
  for (const name of ["emma", "nobody"]) {
    const begin = performance.now();
    await refused(login(requestOf(basic(name, "wrong"))));
    expect(performance.now() - begin).toBeGreaterThan(150);
  }
});

it("nothing else waits", async () => {
  const login = basicLogin(USERS, 3_600_000);
  expect((await refused(login(requestOf(undefined)))).status).toBe(401);
  expect(await login(requestOf(basic("emma", USERS.emma)))).toEqual({ username: "emma" });
});

const own = (authentication: (req: IncomingMessage) => unknown) => {
  const { lines, logger } = recorder();
  const warnings = new Warnings(logger);
  return { lines, warnings, login: ownLogin(authentication, warnings) };
};

it("a login of the user's own names who it is", async () => {
  expect(await own(async () => ({ id: 7 })).login(requestOf("x"))).toEqual({ id: 7 });
});

it.each([null, undefined, false, "", 0])("%s of it is nobody; the browser is not asked for a password", async none => {
  const { status, headers } = await refused(own(() => none).login(requestOf("x")));
  expect([status, headers]).toEqual([401, {}]);
});

it("one that fails lets nobody in, and is logged", async () => {
  const { login, lines, warnings } = own(() => {
    throw new Error("no connection to ldap://admin:secret@ldap");
  });
  expect((await refused(login(requestOf("x")))).status).toBe(401);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("no connection to");
  expect(lines[0]).not.toContain("secret");
  warnings.flush();
});
