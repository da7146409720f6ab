import { it } from "vitest";
import { says, seen, visit } from "../../support/browser";
import { goTo, main, rowOf, table, title } from "../../support/dashboard-page";
import { world } from "../../support/dashboard-world";
import { proxied } from "../../support/proxied";
import { emitterOf } from "../../support/services";

/** 503 is what the page's server says while it cannot ask. */
const AWAY = [/status of 503/];

it.each([
  ["RabbitMQ", 0, /RabbitMQ does not answer since \d\d:\d\d/],
  ["store", 1, /The store \(mongodb\) takes no writes since \d\d:\d\d/],
  ["Redis", 2, /Redis does not answer/]
])(
  "%s goes and comes back while the page is open: it is said, and the page recovers by itself",
  async (name, at, said) => {
    const { options, proxies } = await proxied();
    const night = await world({ options });
    const { page } = await visit(night.url, { user: "ops1", expected: AWAY });
    await says(main(page), "Nothing to do.");
    const other = await visit(`${night.url}#/servers`, { user: "ops2", expected: AWAY });
    const row = rowOf(table(other.page, "Servers"), name);
    await says(row, "up");
    await proxies[at]?.down();
    await says(main(page), said);
    await says(row, "away");
    // Every page is still there, and says so where it has nothing to show.
    for (const [hash, heading] of [
      ["#/dead", "Dead messages"],
      ["#/groups", "Groups"]
    ] as const) {
      await goTo(other.page, hash, heading);
      await seen(title(other.page, heading));
    }
    await goTo(other.page, "#/servers", "Servers and nodes");
    await proxies[at]?.up();
    await says(main(page), "Nothing to do.");
    await says(row, "up");
    await emitterOf(night.desk, "orders")(
      "order.created",
      {},
      { id: `after ${name}`, groups: "stock", waitFor: "consumed" }
    );
  }
);

it("the node that serves the page goes and comes back: what was read stays, stale since then", async () => {
  const night = await world();
  await night.dies("order-77");
  const { page } = await visit(`${night.url}#/dead`, { user: "ops1", expected: [/ERR_CONNECTION_REFUSED/] });
  await says(main(page), "535 authentication failed");
  await night.close();
  await says(page.getByRole("banner"), /stale since \d/);
  await says(main(page), "535 authentication failed");
  await night.open();
  await says(page.getByRole("banner"), /updated \d/);
});
