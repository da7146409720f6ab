import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page } from "playwright-core";
import { expect, it, onTestFinished } from "vitest";
import { gone, says, seen, visit } from "../../support/browser";
import { because, button, dialog, link, main } from "../../support/dashboard-page";
import { world } from "../../support/dashboard-world";
import { story } from "../../support/services";

const REFUSED = [/status of 40[13]/];
/** As the page would send it, whatever its buttons say. */
const post = (page: Page, name: string, body: object) =>
  page.evaluate<[number, { error?: { type: string; message: string } }]>(`
    fetch("api/${name}", {
      method: "POST",
      headers: { "content-type": "application/json", "x-reliable-dashboard": "1" },
      body: ${JSON.stringify(JSON.stringify(body))}
    }).then(async answer => [answer.status, await answer.json()])`);

it("who has not logged in sees nothing, and who may not look neither", async () => {
  const night = await world();
  await night.dies("order-77");
  const nobody = await visit(`${night.url}#/dead`, { expected: [...REFUSED, /favicon\.ico/] });
  await says(nobody.page.locator("body"), "RELIABLE_UNAUTHENTICATED");
  expect(await link(nobody.page, "Dead").count()).toBe(0);
  const stranger = await visit(`${night.url}#/dead`, { user: "stranger", expected: REFUSED });
  await says(main(stranger.page), "stranger may not see this page.");
  await says(main(stranger.page), "Your login may not do this.");
  expect(await main(stranger.page).textContent()).not.toContain("order.created");
});

it("a login that ends while the page is open is told, and what was read stays", async () => {
  const night = await world();
  await night.dies("order-77");
  const { page, context } = await visit(`${night.url}#/dead`, { user: "ops1", expected: REFUSED });
  await says(main(page), "535 authentication failed");
  await context.clearCookies();
  await says(main(page), "You are not logged in (any more). Reload the page.");
  await says(main(page), "535 authentication failed");
  await says(page.getByRole("banner"), /stale since \d/);
});

it("who may look sees every button, with the reason why it does nothing, and the server decides", async () => {
  const night = await world();
  await night.dies("order-77");
  const { page } = await visit(`${night.url}#/message?id=order-77`, { user: "viewer", expected: REFUSED });
  await says(page.getByRole("banner"), "Read-only");
  await says(page.getByRole("banner"), "viewer");
  for (const name of ["Retry one first", "Resolve", "Discard"]) {
    const off = await seen(button(page, name));
    expect(await off.getAttribute("aria-disabled")).toBe("true");
    await off.press("Enter");
    expect(await dialog(page).count()).toBe(0);
  }
  await seen(page.getByText("You may look, and change nothing.").first());
  const answers = await Promise.all([
    post(page, "retry", { id: "order-77", note: "x" }),
    post(page, "bulk", { act: "retry", group: "mail", note: "x" }),
    post(page, "pause", { group: "mail", note: "x" }),
    post(page, "sweep", { note: "x" })
  ]);
  expect(answers.map(([code]) => code)).toEqual([403, 403, 403, 403]);
  expect((await story(night.desk, "order-77")).status).toBe("dead");
});

it("who may retry alone retries, and can do nothing else", async () => {
  const night = await world();
  await night.dies("order-77");
  night.mail.broken = false;
  const { page } = await visit(`${night.url}#/message?id=order-77`, { user: "retrier", expected: REFUSED });
  const off = await seen(button(page, "Resolve"));
  expect(await off.getAttribute("aria-disabled")).toBe("true");
  await off.press("Enter");
  await seen(page.getByText("Your login may not resolve."));
  expect((await post(page, "resolve", { id: "order-77", note: "x" }))[0]).toBe(403);
  expect((await post(page, "bulk", { act: "discard", group: "mail", note: "x" }))[0]).toBe(403);
  await button(page, "Retry one first").click();
  await because(page, "mended", "Retry 1 message");
  await gone(dialog(page));
  await says(main(page), "handled by mail on mail-2");
});

it("in read-only mode nobody changes anything", async () => {
  const night = await world({ dashboard: { readOnly: true, badge: { text: "PRODUCTION", tone: "red" } } });
  await night.dies("order-77");
  const { page } = await visit(`${night.url}#/dead`, { user: "ops1", expected: REFUSED });
  await says(page.getByRole("banner"), "Read-only");
  await says(page.getByRole("banner"), "PRODUCTION");
  expect(await (await seen(button(page, /^Retry all/))).getAttribute("aria-disabled")).toBe("true");
  const [code, answer] = await post(page, "retry", { id: "order-77", note: "x" });
  expect([code, answer.error?.message]).toEqual([403, expect.stringContaining("looking only")]);
});

it("a payload is hidden until somebody asks for it, and what `redact` takes out never comes", async () => {
  const redact = (payload: unknown) => ({ ...(payload as object), card: "***" });
  const night = await world({ dashboard: { hidePayloads: true, redact } });
  await night.emit("order.created", { card: "4111-1111", city: "Riga" }, { id: "order-77" });
  const asked: string[] = [];
  const { page } = await visit(night.url, { user: "ops1" });
  page.on(
    "response",
    response =>
      void response.text().then(
        text => asked.push(text),
        () => undefined
      )
  );
  await page.goto(`${night.url}#/message?id=order-77`);
  await says(main(page), "It is not shown before somebody asks for it.");
  expect(asked.join("")).not.toContain("Riga");
  await button(page, "Show payload").click();
  await says(main(page), "Riga");
  await says(main(page), "***");
  await button(page, "Hide payload").click();
  await gone(page.getByText("Riga"));
  expect(asked.join("")).not.toContain("4111-1111");
});

it("a page of another site changes nothing, though the browser sends the login with it", async () => {
  const night = await world();
  await night.dies("order-77");
  const foreign = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<p>cats</p>"));
  await new Promise<void>(resolve => foreign.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    foreign.closeAllConnections();
    foreign.close();
  });
  const { port } = foreign.address() as AddressInfo;
  // Another site for the browser is another name; another port is the same site, and another origin.
  for (const host of ["localhost", "127.0.0.1"]) {
    const expected = [/./];
    const { page, context } = await visit(`http://${host}:${port}/`, { expected });
    await context.addCookies([{ name: "user", value: "ops1", url: night.url }]);
    for (const type of ["application/json", "text/plain"])
      await page.evaluate(`
        fetch("${night.url}api/retry", {
          method: "POST", mode: "${type === "text/plain" ? "no-cors" : "cors"}", credentials: "include",
          headers: { "content-type": "${type}" },
          body: JSON.stringify({ id: "order-77", note: "cats" })
        }).catch(String)`);
    await page.setContent(
      `<form method="post" action="${night.url}api/retry" enctype="text/plain"><input name='{"id":"order-77","note":"' value='"}'><button>cats</button></form>`
    );
    await Promise.all([page.waitForNavigation(), button(page, "cats").click()]);
    expect(await page.locator("body").textContent()).toMatch(/forbidden|RELIABLE/i);
    expect((await story(night.desk, "order-77")).status).toBe("dead");
  }
  // No page of theirs holds ours in a frame.
  const { page } = await visit(`http://localhost:${port}/`, { expected: [/./] });
  await page.setContent(`<iframe src="${night.url}"></iframe>`);
  await seen(page.locator("iframe"));
  expect(await link(page.frames()[1] as never, "Dead").count()).toBe(0);
});
