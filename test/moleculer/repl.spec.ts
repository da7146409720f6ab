import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { stripVTControlCharacters } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { cluster, until } from "../support/brokers";
import { startNode, type TestNode } from "../support/child";

/** Types a command into the session and waits for what it should print. */
async function ask(session: TestNode, command: string, expected: RegExp): Promise<string> {
  const from = session.output.length;
  const answer = () => stripVTControlCharacters(session.output.slice(from));
  session.type(command);
  return until(answer, said => expected.test(said) && said.trimEnd().endsWith("mol $"));
}

async function startSession(): Promise<TestNode> {
  const { namespace, options } = cluster();
  const { amqp, mongo, redis, database } = options();
  const home = mkdtempSync(path.join(tmpdir(), "repl-"));
  onTestFinished(() => rmSync(home, { recursive: true, force: true }));
  const addresses: Record<string, string> = amqp
    ? {
        RELIABLE_AMQP: String(amqp),
        RELIABLE_MONGO: String(mongo),
        RELIABLE_REDIS: String(redis),
        RELIABLE_DATABASE: String(database)
      }
    : {};
  // The REPL keeps its history in the home folder.
  const session = await startNode("test/support/repl-node.ts", {
    stdin: true,
    env: { NAMESPACE: namespace, HOME: home, FORCE_COLOR: "0", ...addresses }
  });
  await session.next("ready");
  return session;
}

it("a REPL session shows dead messages and leads them on", async () => {
  const session = await startSession();
  for (const id of ["order-1", "order-2", "order-3"])
    await ask(session, `call orders.create --id ${id} --email emma@example.test`, /status: 'p/);
  const dead = [await session.next("dead"), await session.next("dead"), await session.next("dead")];
  expect(dead.sort()).toEqual(["order-1", "order-2", "order-3"]);

  await ask(session, "call reliable.list --status dead", /id: 'order-1'[\s\S]*total: 3/);
  const overview = await ask(session, "reliable", /dead +│ 3/);
  expect(overview).toMatch(/3 messages are dead: mail, since .*Somebody has to act\./);
  expect(overview).toMatch(/desk +│ ok/);
  await ask(session, "reliable history", /Nothing was counted|p95 ms/);
  await ask(
    session,
    "reliable list --status dead --event order.created",
    /order-2 +│ order.created │ dead +│ mail[\s\S]*2\/2[\s\S]*550 no such mailbox: emma@example.test[\s\S]*3 message\(s\)/
  );
  await ask(
    session,
    "reliable get order-1",
    /stored by orders for mail[\s\S]*attempt 2 failed in mail[\s\S]*dead in mail: handler in group mail at attempt 2/
  );
  await ask(session, "reliable retry --status dead --dry-run", /Dry run: 3 message\(s\) would be retried/);
  // It is a pipe and no terminal: nobody is there to be asked.
  const resolving = 'reliable resolve --status dead --event order.created --note "a test"';
  await ask(session, resolving, /Resolves 3 dead message\(s\) of event order\.created[\s\S]*it needs --yes/);
  await ask(session, "reliable bulks", /There were no bulk acts/);

  session.tell("fix");
  // What is told and what is typed take two ways.
  await session.next("fixed");
  await ask(session, "call reliable.retry --id order-1", /done: 1/);
  expect(await session.next("consumed")).toEqual(["order-1"]);
  await ask(session, 'reliable retry order-2 --note "address fixed"', /1 of 1 message\(s\) retried/);
  expect(await session.next("consumed")).toEqual(["order-2"]);
  await ask(
    session,
    "reliable get order-2",
    /retry of mail by REPL on desk: address fixed[\s\S]*handled by mail on node desk/
  );
  await ask(session, 'reliable resolve order-3 --note "sent by hand" --by emma', /1 of 1 message\(s\) resolved/);
  await ask(session, "reliable get order-3", /resolve of mail by emma: sent by hand/);
  await ask(session, "reliable retry --status dead --yes", /No such messages/);

  await ask(
    session,
    "reliable subscriptions",
    /mail +│ order.created │ .*\.reliable\.on\.mail\/order\.created +│ 0 +│ 1/
  );
  await ask(session, "reliable health", /publish +│ up/);
  await ask(session, "reliable sweep", /claimed +│ \d/);
  await ask(
    session,
    "reliable audits --page-size 3",
    /sweep +│ REPL on desk[\s\S]*resolve +│ emma +│ order-3 +│ 1 of 1 +│ sent by hand[\s\S]*Page 1 of 2, 4 act\(s\)/
  );

  const replay = "reliable replay mail --event order.created --from-at 2026-01-01T00:00Z";
  await ask(session, replay, /Sends 0 message\(s\) of event order\.created[\s\S]*3 more are left out/);
  await ask(session, `${replay} --again --yes`, /Error RELIABLE_BAD_OPTION: 'replay' needs a --note/);
  await ask(session, `${replay} --again --yes --note "lost its mails"`, /Begun: [\s\S]*How it goes: reliable bulk/);
  const replayed: unknown[] = [];
  while (replayed.length < 3) replayed.push(...(await session.next<unknown[]>("consumed")));
});

it("what is wrong is said plainly in a REPL session", async () => {
  const session = await startSession();
  const wrong: [command: string, answer: RegExp][] = [
    ["reliable get nope", /Error RELIABLE_NOT_FOUND: No message 'nope' is in the store/],
    ["reliable lst", /There is no 'reliable lst'\. Did you mean 'list'\? There are: overview, list/],
    ["reliable list --stauts dead", /'reliable list' has no --stauts\. Did you mean --status\?/],
    ["reliable list --page-sise 5", /'reliable list' has no --page-sise\. Did you mean --page-size\?/],
    ["reliable list --page-size 501", /--page-size must be a whole number from 1 to 500\./],
    ["reliable retry --status dead --limit 10001", /--limit must be a whole number from 1 to 10000\./],
    ["reliable help retry", /reliable retry \[id\.\.\.\][\s\S]*--dry-run/],
    ["reliable retry --help", /reliable\s+help\s+<what>/],
    ["reliable list --status gone", /Unknown status 'gone'/],
    ["reliable parked --page x", /--page must be a whole number from 1 to 1000000000\./],
    ["reliable retry", /'retry' needs an id, ids, or a filter/],
    ["reliable parked", /Nothing is parked/],
    ["reliable parked q/m#1", /Error RELIABLE_NOT_FOUND: No parked message 'q\/m#1' is in the store/],
    ["reliable discard --parked q/m#1 --note spam", /No parked message 'q\/m#1'/],
    ["reliable discard q/m#1 --parked", /'discard' needs a --note/],
    ["reliable resolve nope", /'resolve' needs a --note/],
    ["reliable resolve nope nada --note x", /0 of 2 message\(s\) resolved[\s\S]*nope +│ not-found/],
    ["reliable audits", /No audit records/],
    ["reliable bulk", /'reliable bulk' needs an id/],
    ["reliable bulk nope", /Error RELIABLE_NOT_FOUND: There is no bulk act 'nope'/],
    ["reliable bulk rate nope --per-second 0", /--per-second must be a whole number from 1 to 10000\./],
    ["reliable audits nope", /Error RELIABLE_NOT_FOUND: There is no audit record 'nope'/],
    ["reliable audits --page-size 501", /--page-size must be a whole number from 1 to 500\./],
    ["reliable history --step-ms 1", /--step-ms must be whole minutes/],
    ["reliable list --key order=1 --page-size 2 --cursor", /Error RELIABLE_BAD_OPTION: --cursor needs a value\./],
    ["reliable health now", /does not know what 'now' is for/],
    ["reliable health --node nowhere", /No node with the service 'reliable' can be reached/]
  ];
  for (const [command, answer] of wrong) expect(await ask(session, command, answer)).not.toMatch(/\n\s+at /);
});
