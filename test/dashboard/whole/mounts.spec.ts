import { expect, it } from "vitest";
import { ReliableDashboardService } from "../../../mixins/dashboard";
import type { AuditRow } from "../../../src";
import type { Page as Rows } from "../../../src/operator/operations";
import { gone, says, seen, visit } from "../../support/browser";
import { because, button, dialog, goTo, main, PAGES, sweepNow, title } from "../../support/dashboard-page";
import { type World, world } from "../../support/dashboard-world";
import { httpProxy } from "../../support/http-proxy";
import { freePort } from "../../support/ports";

/** Each page, each with what it reads, and an act. */
async function works(night: World, url: string, user: object = { user: "ops1" }): Promise<void> {
  const { page } = await visit(url, user);
  await seen(title(page, "Overview"));
  for (const { hash, heading } of PAGES) {
    await goTo(page, hash, heading);
    await gone(page.getByText("Loading …"));
    expect(await page.getByRole("alert").allInnerTexts()).toEqual([]);
  }
  await sweepNow(page);
  const { rows } = await night.desk.call<Rows<AuditRow>, object>("reliable.audits", {});
  expect(rows[0]).toMatchObject({ act: "sweep", by: "ops1", note: "does it work?" });
}

it("at a gateway whose own path has a prefix, with and without the slash at the end", async () => {
  const night = await world({ gateway: { settings: { port: 0, ip: "127.0.0.1", path: "/gate/way", routes: [] } } });
  const url = night.url.replace("/reliable/", "/gate/way/reliable");
  await works(night, url);
  const { page } = await visit(url, { user: "ops1" });
  expect(new URL(page.url()).pathname).toBe("/gate/way/reliable/");
});

it("behind a proxy that puts it under a prefix of its own", async () => {
  const night = await world();
  const url = await httpProxy({ target: night.url, prefix: "/ops/night tools/".replace(" ", "%20") });
  await works(night, url);
  // Without the slash it is found where the last part of both names is the same.
  const same = await httpProxy({ target: night.url, prefix: "/ops/reliable/" });
  const { page } = await visit(same.replace(/\/$/, ""), { user: "ops1" });
  await seen(title(page, "Overview"));
  expect(page.url()).toMatch(same);
});

it("behind a proxy that says another host: acts are refused with what to do, and done where the origin is named", async () => {
  const proxy = { prefix: "/", host: "inner.example" };
  const night = await world();
  const { page } = await visit(await httpProxy({ ...proxy, target: night.url }), {
    user: "ops1",
    expected: [/status of 403/]
  });
  await goTo(page, "#/servers", "Servers and nodes");
  await button(page, "Sweep now").click();
  await because(page, "does it work?", "Sweep now");
  await says(dialog(page), "name the origin in the option 'origins'");

  const port = await freePort();
  const named = await world({ dashboard: { origins: [`http://127.0.0.1:${port}`] } });
  await works(named, await httpProxy({ ...proxy, target: named.url, port }));
});

it("on a port of its own, with users and passwords", async () => {
  const port = await freePort();
  const night = await world({
    services: () => [ReliableDashboardService({ port, users: { ops1: "right", ops2: "wrong" } })]
  });
  const url = `http://127.0.0.1:${port}/`;
  await works(night, url, { httpCredentials: { username: "ops1", password: "right" }, expected: [/status of 401/] });
  const { page } = await visit(url, {
    httpCredentials: { username: "ops1", password: "wrong" },
    expected: [/status of 401/]
  });
  expect(await title(page, "Overview").count()).toBe(0);
});

it("on a port of its own, without anybody who logs in: what is done is known as an act of the page's node", async () => {
  const port = await freePort();
  await world({ services: () => [ReliableDashboardService({ port, path: "/reliable", access: "anonymous" })] });
  const { page } = await visit(`http://127.0.0.1:${port}/reliable`);
  await says(page.getByRole("banner"), "Nobody has to log in");
  await goTo(page, "#/servers", "Servers and nodes");
  await button(page, "Sweep now").click();
  await says(dialog(page), "nobody has logged in");
  await because(page, "does it work?", "Sweep now");
  await says(dialog(page), "Swept");
  await button(dialog(page), "Close").click();
  await goTo(page, "#/acts", "Acts");
  await says(main(page), "does it work?");
});
