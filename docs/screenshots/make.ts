import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { clean } from "../../examples/clean.js";
import { withFewColours } from "./png";
import { DATABASE, NAMESPACE, startWorld, type World } from "./world";

/**
 * `npm run screenshots`, or `npm run screenshots -- groups acts`: docs/img/*.png, of the built page over a shop with some trouble in it. Needs RabbitMQ, MongoDB
 * and Redis (AMQP_URL, MONGO_URL, REDIS_URL) and Chromium (CHROMIUM, else /usr/bin/chromium).
 */
const FOLDER = path.resolve("docs/img");
const MAX_BYTES = 120_000;

interface Shot {
  name: string;
  /** In the page's address. */
  hash: string;
  /** The heading by which it is known that it is there. */
  heading: RegExp;
  dark?: true;
  narrow?: true;
  /** Before the picture is taken. */
  first?(page: Page): Promise<void>;
}

const shotsOf = ({ dead }: World): Shot[] => {
  const message = { hash: `#/message?id=${encodeURIComponent(dead)}`, heading: /message/i };
  const overview = { hash: "#/overview", heading: /overview/i };
  return [
    // First, while the bulk retry goes on.
    { name: "acts", hash: "#/acts", heading: /acts/i },
    { name: "overview", ...overview },
    { name: "overview-dark", ...overview, dark: true },
    { name: "overview-narrow", ...overview, narrow: true },
    { name: "dead", hash: "#/dead?since=1h", heading: /dead/i },
    { name: "messages", hash: "#/messages?status=dead", heading: /messages/i },
    { name: "message", ...message },
    {
      name: "retry",
      ...message,
      first: async page => {
        await page
          .getByRole("button", { name: /retry one first|^retry/i })
          .first()
          .click();
        await page.getByRole("dialog").waitFor();
        await page.getByRole("textbox", { name: /why/i }).fill("the mail server's password is right again");
      }
    },
    { name: "groups", hash: "#/groups", heading: /groups/i },
    { name: "servers", hash: "#/servers", heading: /servers/i },
    { name: "parked", hash: "#/parked", heading: /parked/i }
  ];
};

async function take(browser: Browser, url: string, { name, hash, heading, dark, narrow, first }: Shot): Promise<void> {
  const context = await browser.newContext({
    viewport: narrow ? { width: 360, height: 740 } : { width: 1280, height: 960 },
    colorScheme: dark ? "dark" : "light",
    reducedMotion: "reduce",
    timezoneId: "UTC",
    locale: "en-GB"
  });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("console", message => message.type() === "error" && errors.push(message.text()));
  await page.goto(`${url}${hash}`);
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
  await page.waitForLoadState("networkidle");
  // Of a machine that does too much at once; the page looks again every 5 s.
  await page
    .getByText(/slowly|does not say/)
    .first()
    .waitFor({ state: "hidden", timeout: 120_000 });
  await first?.(page);
  const file = path.join(FOLDER, `${name}.png`);
  const png = withFewColours(await page.screenshot({ animations: "disabled", caret: "hide" }));
  await context.close();
  writeFileSync(file, png);
  console.log(`${path.relative(".", file)} ${(png.length / 1000).toFixed(0)} kB`);
  if (png.length > MAX_BYTES) throw new Error(`${file} has ${png.length} bytes; at most ${MAX_BYTES}`);
  if (errors.length) throw new Error(`${hash}: ${errors.join("; ")}`);
}

async function main(): Promise<void> {
  const { AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis, CHROMIUM } = process.env;
  if (!amqp || !mongo || !redis)
    throw new Error('set AMQP_URL, MONGO_URL and REDIS_URL: eval "$(test/servers/servers env)"');
  const servers = { amqp, mongo, redis };
  const place = { namespace: NAMESPACE, options: { ...servers, database: DATABASE, checkDelaysMs: [] } };
  // What an interrupted run has left would be in the pictures.
  await clean(place, []);
  const world = await startWorld(servers, await freePort());
  const browser = await chromium.launch({
    executablePath: CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"]
  });
  try {
    mkdirSync(FOLDER, { recursive: true });
    const only = process.argv.slice(2);
    for (const shot of shotsOf(world).filter(({ name }) => !only.length || only.includes(name)))
      await take(browser, world.url, shot);
  } finally {
    await browser.close();
    await world.stop();
    await clean(place, world.queues);
  }
}

function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

main().then(
  () => process.exit(0),
  error => {
    console.error(error);
    process.exit(1);
  }
);
